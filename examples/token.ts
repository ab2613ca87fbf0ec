// node:crypto: signs and verifies a small token.
import { createHmac, timingSafeEqual } from "node:crypto";

const KEY = "a key for the demo only";

function signature(text: string): string {
  return createHmac("sha256", KEY).update(text).digest("base64url");
}

export function sign(user: string): string {
  return `${user}.${signature(user)}`;
}

/** The user's name, or null when the signature is not ours. */
export function verify(token: string): string | null {
  const dot = token.lastIndexOf(".");
  const user = token.slice(0, Math.max(dot, 0));
  const given = Buffer.from(token.slice(dot + 1));
  const wanted = Buffer.from(signature(user));
  return given.length === wanted.length && timingSafeEqual(given, wanted) ? user : null;
}
