// The Node HTTP server behind `proxy_pass`: a process of its own, on a unix socket.
// It is compiled by esbuild before it starts, so that no loader hooks run in the measured process,
// and takes the query apart by hand: the fastest plain node:http server is the fair opponent.
import { createSecretKey } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";

import { subjectOf } from "./hs256.ts";

function argument(url: string, name: string): string {
  const key = `${name}=`;
  const from = url.indexOf(key) + key.length;
  const to = url.indexOf("&", from);
  return to < 0 ? url.slice(from) : url.slice(from, to);
}

function burn(ms: number): number {
  const end = performance.now() + ms;
  let turns = 0;
  while (performance.now() < end) turns += 1;
  return turns;
}

function setFields({ headers }: IncomingMessage, response: ServerResponse): void {
  const text = (name: string): string => headers[name] as string;
  response.setHeader("x-client", `${text("x-forwarded-for")} ${text("accept-language")}`);
  response.setHeader(
    "x-trace",
    `${text("x-request-id")}/${text("x-user-id")}/${text("user-agent")}`,
  );
}

function handle(request: IncomingMessage, response: ServerResponse): void {
  const url = request.url ?? "";
  if (url.startsWith("/proxy/echo")) {
    response.end(argument(url, "q"));
  } else if (url.startsWith("/proxy/header")) {
    response.setHeader("x-reply", request.headers["x-user-id"] ?? "");
    response.end("ok");
  } else if (url.startsWith("/proxy/jwt")) {
    const user = subjectOf(request.headers.authorization, key);
    if (user === undefined) response.statusCode = 401;
    response.end(user);
  } else if (url.startsWith("/proxy/fields")) {
    setFields(request, response);
    response.end("ok");
  } else {
    response.end(String(burn(Number(argument(url, "ms")))));
  }
}

const [, , socketPath, secret] = process.argv;
if (socketPath === undefined || secret === undefined)
  throw new Error("usage: server SOCKET SECRET");
const key = createSecretKey(secret, "utf8");

const server = createServer({ keepAliveTimeout: 0, requestTimeout: 0 }, handle);
// The worker runs as another user when the benchmark is started by root.
process.umask(0);
server.listen(socketPath, () => process.stdout.write("listening\n"));
// The bench holds our stdin: when it is gone, however it ended, so are we.
process.stdin.resume().on("end", () => process.exit(0));
