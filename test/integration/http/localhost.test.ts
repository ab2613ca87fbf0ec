/** "localhost" has two addresses, and its servers often one: fetch and node:http try both. */
import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { withNginx } from "../../support/nginx.js";
import { PROJECT_ROOT } from "../../support/project.js";

const hasIpv6 = Object.values(networkInterfaces()).some((addresses) =>
  addresses?.some(({ address }) => address === "::1"),
);

for (const runtime of ["embedded", "process"]) {
  for (const address of ["127.0.0.1", "::1"]) {
    const skip = address === "::1" && !hasIpv6 && "this machine has no ::1";
    test(
      `a server at ${address} alone is reached by "localhost", ${runtime}`,
      { skip },
      async () => {
        const server = createServer((_, response) => response.end("reached"));
        await new Promise<void>((resolve) => server.listen(0, address, resolve));
        const { port } = server.address() as AddressInfo;
        await withNginx(
          {
            ts: { runtime, plugins: join(PROJECT_ROOT, "test/kit/plugins") },
            locations: {
              "/": `access_by_lua_block { require("resty.ts.http").access("dials") }`,
            },
          },
          async (nginx) => {
            assert.deepEqual((await nginx.ask(`/?port=${port}`)).json(), ["reached", "reached"]);
          },
        );
        server.closeAllConnections();
        server.close();
      },
    );
  }
}
