// The njs side of the benchmark. njs compiles this itself (ECMAScript subset, no npm).
import crypto from "crypto";

// jwt.ts has it, too.
const JWT_SECRET = "a-secret-of-the-benchmark-of-40-bytes!!!";

function echo(r) {
  r.return(200, r.args.q);
}

function header(r) {
  r.headersOut["X-Reply"] = r.headersIn["X-User-Id"];
  r.return(200, "ok");
}

function decoded(part) {
  return JSON.parse(Buffer.from(part, "base64url").toString());
}

// The subject of a good token, or "". Signatures are compared as texts: njs has no timingSafeEqual, and
// a loop in its place would cost it more than that costs the others.
function subjectOf(authorization) {
  if (!authorization || !authorization.startsWith("Bearer ")) return "";
  const first = authorization.indexOf(".", 7);
  const second = authorization.indexOf(".", first + 1);
  if (first < 0 || second < 0) return "";

  const signed = authorization.slice(7, second);
  const digest = crypto.createHmac("sha256", JWT_SECRET).update(signed).digest("base64url");
  if (digest !== authorization.slice(second + 1)) return "";

  try {
    if (decoded(authorization.slice(7, first)).alg !== "HS256") return "";
    const claims = decoded(authorization.slice(first + 1, second));
    if (typeof claims.exp !== "number" || claims.exp * 1000 <= Date.now()) return "";
    return claims.sub;
  } catch (e) {
    return "";
  }
}

// njs cannot set a request's field. Its way on is a variable (js_set, for proxy_set_header), which takes
// the worker as long as this, or auth_request, which takes longer: the answer is the cheapest.
function jwt(r) {
  const subject = subjectOf(r.headersIn.Authorization);
  if (subject === "") r.return(401);
  else r.return(200, subject);
}

function fields(r) {
  const headers = r.headersIn;
  r.headersOut["X-Client"] = `${headers["X-Forwarded-For"]} ${headers["Accept-Language"]}`;
  r.headersOut["X-Trace"] =
    `${headers["X-Request-Id"]}/${headers["X-User-Id"]}/${headers["User-Agent"]}`;
  r.return(200, "ok");
}

// js_set: the request's field as a variable.
function field() {
  return "1";
}

function setResponseField(r) {
  r.headersOut["X-Resp"] = "1";
}

// `test` alone leaves it to PCRE; with includes, indexOf or replace a piece takes four times as long.
const SECRET = /hunter2/;

function mask(r, piece, flags) {
  r.sendBuffer(SECRET.test(piece) ? piece.split(SECRET).join("*******") : piece, flags);
}

function burn(r) {
  const end = Date.now() + Number(r.args.ms);
  let turns = 0;
  while (Date.now() < end) turns += 1;
  r.return(200, String(turns));
}

export default { echo, header, jwt, fields, field, setResponseField, mask, burn };
