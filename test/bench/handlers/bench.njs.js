// The njs side of the benchmark. njs compiles this itself (ECMAScript subset, no npm).

function echo(r) {
  r.return(200, r.args.q);
}

function header(r) {
  r.headersOut["X-Reply"] = r.headersIn["X-User-Id"];
  r.return(200, "ok");
}

function burn(r) {
  const end = Date.now() + Number(r.args.ms);
  let turns = 0;
  while (Date.now() < end) turns += 1;
  r.return(200, String(turns));
}

export default { echo, header, burn };
