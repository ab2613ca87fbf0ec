// A figure: lines over one quantity, as a Markdown table and as an SVG file.
import { init } from "echarts";

interface Axis {
  /** With the unit. */
  readonly title: string;
  readonly log?: boolean;
  /** A value as a label; by default the number. */
  readonly show?: (value: number) => string;
}

export interface Line {
  readonly name: string;
  readonly points: readonly (readonly [x: number, y: number])[];
  /** The name of the line that this one is compared with: same colour, dashed. */
  readonly beside?: string;
}

export interface Figure {
  /** Of the file. */
  readonly name: string;
  readonly title: string;
  readonly x: Axis;
  readonly y: Axis;
  readonly lines: readonly Line[];
  /** Below the table. */
  readonly note?: string;
}

const WIDTH = 720;
const HEIGHT = 420;
const COLOURS = ["#2563eb", "#6b7280", "#d97706", "#059669", "#9333ea"];
const TEXT = "#1f2937";
const GRID = "#e5e7eb";

/** Three digits that count. */
function rounded(value: number): string {
  const digits = value === 0 ? 0 : Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
  return value.toLocaleString("en-US", { maximumFractionDigits: Math.min(digits, 2) });
}

function valuesOf({ lines }: Figure): number[] {
  const all = new Set(lines.flatMap(({ points }) => points.map(([x]) => x)));
  return [...all].sort((a, b) => a - b);
}

export function tableOf(figure: Figure): string {
  const { title, x, y, lines, note } = figure;
  const row = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  const show = x.show ?? rounded;
  const cell = ({ points }: Line, value: number): string => {
    const found = points.find(([at]) => at === value);
    return found === undefined ? "" : rounded(found[1]);
  };
  return [
    `${title}: ${y.title}`,
    "",
    row([x.title, ...lines.map(({ name }) => name)]),
    row(["---:", ...lines.map(() => "---:")]),
    ...valuesOf(figure).map((value) =>
      row([show(value), ...lines.map((line) => cell(line, value))]),
    ),
    ...(note === undefined ? [] : ["", note]),
  ].join("\n");
}

/** ECharts' scales end at powers of ten; ours where the values do. */
function axisOf({ title, log, show }: Axis, values?: readonly number[]): object {
  return {
    type: log === true ? "log" : "value",
    name: title,
    nameLocation: "middle",
    nameGap: values === undefined ? 52 : 32,
    nameTextStyle: { color: TEXT, fontSize: 13 },
    axisLine: { show: true, lineStyle: { color: TEXT } },
    axisLabel: { color: TEXT, formatter: show ?? rounded, customValues: values, hideOverlap: true },
    axisTick: { show: true, customValues: values },
    splitLine: { lineStyle: { color: GRID } },
    ...(values !== undefined && { min: values[0], max: values.at(-1) }),
  };
}

export function svgOf(figure: Figure): string {
  const { title, lines } = figure;
  const colourOf = ({ name, beside }: Line): string | undefined => {
    const own = lines.filter((line) => line.beside === undefined);
    return COLOURS[own.findIndex((line) => line.name === (beside ?? name)) % COLOURS.length];
  };
  const chart = init(null, null, { renderer: "svg", ssr: true, width: WIDTH, height: HEIGHT });
  chart.setOption({
    animation: false,
    backgroundColor: "#ffffff",
    textStyle: { fontFamily: "sans-serif" },
    title: { text: title, left: 16, top: 12, textStyle: { color: TEXT, fontSize: 15 } },
    grid: { left: 80, right: 150, top: 60, bottom: 60 },
    xAxis: axisOf(figure.x, valuesOf(figure)),
    yAxis: axisOf(figure.y),
    series: lines.map((line) => ({
      name: line.name,
      type: "line",
      data: line.points,
      color: colourOf(line),
      symbol: "circle",
      symbolSize: 6,
      lineStyle: { width: 2, type: line.beside === undefined ? "solid" : "dashed" },
      endLabel: { show: true, formatter: "{a}", color: colourOf(line), fontSize: 12 },
      labelLayout: { moveOverlap: "shiftY" },
    })),
  });
  const svg = chart.renderToSVGString();
  chart.dispose();
  return `${svg}\n`;
}
