/** Colour, on terminals only, and not where NO_COLOR (no-color.org) is set. */

type Paint = (text: string) => string;

export interface Colours {
  readonly green: Paint;
  readonly yellow: Paint;
  readonly red: Paint;
  readonly grey: Paint;
}

const paint =
  (code: number, isOn: boolean): Paint =>
  (text) =>
    isOn ? `\x1b[${code}m${text}\x1b[0m` : text;

export function colours(stream: { readonly isTTY?: boolean }): Colours {
  const isOn = stream.isTTY === true && (process.env["NO_COLOR"] ?? "") === "";
  return {
    green: paint(32, isOn),
    yellow: paint(33, isOn),
    red: paint(31, isOn),
    grey: paint(90, isOn),
  };
}
