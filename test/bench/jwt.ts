// JSON Web Tokens for the jwt case (RFC 7519, HS256), and the secret that all targets check them by.
import { createHmac } from "node:crypto";

/** The njs handlers have a copy: the check of their answers fails when the two differ. */
export const JWT_SECRET = "a-secret-of-the-benchmark-of-40-bytes!!!";

const LIFETIME_S = 24 * 60 * 60;

function part(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString("base64url");
}

function signed(header: object, payload: object): string {
  const text = `${part(header)}.${part(payload)}`;
  return `${text}.${createHmac("sha256", JWT_SECRET).update(text).digest("base64url")}`;
}

/** Another first letter of the signature, which stays base64url. */
function tampered(token: string): string {
  const at = token.lastIndexOf(".") + 1;
  return token.slice(0, at) + (token[at] === "A" ? "B" : "A") + token.slice(at + 1);
}

/** A token that is good for a day, and tokens that must be refused, by what is wrong with them. */
export interface Tokens {
  readonly good: string;
  readonly bad: Readonly<Record<string, string>>;
}

export function makeTokens(sub: string): Tokens {
  const now = Math.floor(Date.now() / 1000);
  // RFC 9068, 2.2: what an access token has.
  const header = { alg: "HS256", typ: "at+jwt" };
  const payload = {
    iss: "https://issuer.example",
    aud: "https://api.example",
    sub,
    client_id: "s6BhdRkqt3",
    iat: now,
    exp: now + LIFETIME_S,
    jti: "dbe39bf3-a3ba-4238-a513-f51d6e1691c4",
    scope: "openid profile orders:read orders:write",
  };
  const good = signed(header, payload);
  const otherPayload = part({ ...payload, sub: "root" });
  return {
    good,
    bad: {
      "a changed payload": good.replace(/\.[^.]+\./, `.${otherPayload}.`),
      "a changed signature": tampered(good),
      "a longer signature": `${good}AAAA`,
      "no signature": good.slice(0, good.lastIndexOf(".") + 1),
      "an expired one": signed(header, { ...payload, exp: now - 60 }),
      "no time of expiry": signed(header, { sub }),
      "no algorithm": signed({ alg: "none" }, payload),
      "no token": "x",
    },
  };
}
