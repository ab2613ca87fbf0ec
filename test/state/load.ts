/** A client that only counts: many requests of one kind. */
import { connect, type Socket } from "node:net";
import { until } from "../support/deadline.js";
import type { Kind } from "./kinds.ts";

const CONNECTIONS = 32;
/** How many requests a connection is given at once. */
const AT_ONCE = 16;
const STATUS = "HTTP/1.1 ";

/** A connection; undefined: nginx is behind with those before it. */
function connection(path: string): Promise<Socket | undefined> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once("connect", () => {
      resolve(socket);
    });
    // nginx cuts what it was told to cut.
    socket.on("error", () => {
      resolve(undefined);
    });
  });
}

function open(path: string): Promise<Socket> {
  return until("nginx takes a connection", () => connection(path), 60_000);
}

const closed = (socket: Socket): Promise<void> =>
  new Promise((resolve) => {
    socket.once("close", () => {
      resolve();
    });
  });

/** Resolves with how many responses have begun when there are `count`, or the connection is closed. */
function responses(socket: Socket, count: number): Promise<number> {
  return new Promise((resolve) => {
    let seen = 0;
    let before = "";
    const done = (): void => {
      socket.off("data", take);
      socket.off("close", done);
      resolve(seen);
    };
    const take = (piece: Buffer): void => {
      const text = before + piece.toString("latin1");
      for (let at = text.indexOf(STATUS); at >= 0; at = text.indexOf(STATUS, at + 1)) seen++;
      before = text.slice(1 - STATUS.length);
      if (seen >= count) done();
    };
    socket.on("data", take);
    socket.on("close", done);
  });
}

/** Sends `count` requests; `progress` is called with how many have been sent. */
export async function load(
  socketPath: string,
  path: string,
  { client, method = "GET" }: Kind,
  count: number,
  progress: (sent: number) => void = () => undefined,
): Promise<void> {
  let sent = 0;
  const take = (most: number): number => {
    const taken = Math.min(most, count - sent);
    sent += taken;
    progress(sent);
    return taken;
  };
  const request = (connection: string): string =>
    `${method} ${path} HTTP/1.1\r\nHost: a.example\r\nConnection: ${connection}\r\n\r\n`;

  async function keep(): Promise<void> {
    let socket = await open(socketPath);
    for (let n = take(AT_ONCE); n > 0; n = take(AT_ONCE)) {
      for (let left = n; left > 0;) {
        if (socket.destroyed) socket = await open(socketPath);
        socket.write(request("keep-alive").repeat(left));
        const answered = await responses(socket, left);
        if (answered === 0) throw new Error("a connection was closed without an answer");
        left -= answered;
      }
    }
    socket.destroy();
  }

  async function alone(): Promise<void> {
    while (take(1) > 0) {
      const socket = await open(socketPath);
      socket.resume();
      socket.write(request("close"));
      await closed(socket);
    }
  }

  async function leave(): Promise<void> {
    for (let i = 0; take(1) > 0; i++) {
      const socket = await open(socketPath);
      const end = (): Socket => socket.destroy();
      // At once, a moment later, or at the first byte that comes, if one does.
      socket.write(request("close"), () => {
        if (i % 3 === 0) end();
        else setTimeout(end, i % 3 === 1 ? 1 : 5);
      });
      socket.once("data", end);
      await closed(socket);
    }
  }

  const one = { kept: keep, alone, left: leave }[client];
  await Promise.all(Array.from({ length: CONNECTIONS }, one));
}
