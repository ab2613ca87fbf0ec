/** What the types of contexts say: a change that a phase refuses does not compile. tsc is the test. */
/* eslint-disable @typescript-eslint/no-unsafe-call -- of what is not there for the types */
import { test } from "node:test";
import { definePlugin } from "../../../src/sdk/index.ts";

test("a change that a phase refuses does not compile", () => {
  definePlugin({
    name: "typed",
    access({ request, response }) {
      request.uri = "/x";
      request.headers.set("x-a", "1");
      response.status = 201;
      response.headers.delete("x-a");
    },
    headerFilter({ request, response }) {
      response.status = 201;
      response.headers.append("x-a", request.headers.get("x-a") ?? request.uri);
      // @ts-expect-error -- the request has been answered
      request.uri = "/x";
      // @ts-expect-error -- the request has been answered
      request.headers.set("x-a", "1");
    },
    bodyFilter({ request, response, chunk }) {
      // @ts-expect-error -- the request has been answered
      request.method = "GET";
      // @ts-expect-error -- the header is sent
      response.status = 201;
      // @ts-expect-error -- the header is sent
      response.headers.append("x-a", "1");
      return response.status === 200 && response.headers.has("x-a") ? chunk : undefined;
    },
    log(ctx) {
      ctx.log.info(ctx.endTime, ctx.request.query.get("a"), [...ctx.response.headers]);
      // @ts-expect-error -- the request is over
      ctx.request.query = "a=1";
      // @ts-expect-error -- the response is sent
      ctx.response.headers.delete("x-a");
    },
    delayedBodyFilter(ctx) {
      // @ts-expect-error -- it is log's alone
      ctx.log.info(ctx.endTime);
    },
  });
});
