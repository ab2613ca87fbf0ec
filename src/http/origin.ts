/** The host of a request as nginx has it, and what its URL begins with. Pure. */

/**
 * ngx_http_validate_host: the host of a Host field, without its port, in lower case.
 * @returns undefined: nginx answers 400.
 */
export function hostOf(field: string): string | undefined {
  if (/[\0-\x20/\x7f]|\.\./.test(field)) return undefined;
  const [host = ""] = /^\[[^\]]*\]|^\[.*|^[^:]*/s.exec(field) ?? [];
  const bare = host.replace(/\.$/, "").toLowerCase();
  return bare === "" ? undefined : bare;
}

/** What stands for a host that no URL can have. */
const NO_HOST = "localhost";

/**
 * The origin of a request's URL.
 * @param host $host. @param field the Host field, which alone has the port.
 */
export function originOf(scheme: string, host: string, field: string | null): string {
  const [, name, port] = /^(\[[^\]]*\]|[^:]*):(\d{1,5})$/.exec(field ?? "") ?? [];
  const hasPort = name !== undefined && hostOf(name) === host && Number(port) <= 65_535;
  try {
    const { hostname } = new URL(`${scheme}://${host}`);
    // "0x7f.1" and "a%62c" are other hosts to a URL than to nginx.
    if (hostname === host || /^\[[0-9a-f:.]+\]$/.test(host)) {
      return `${scheme}://${host}${hasPort ? `:${port}` : ""}`;
    }
  } catch {
    // A Host that is none must not cost the plugin its request.
  }
  return `${scheme}://${NO_HOST}`;
}
