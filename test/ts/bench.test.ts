// What of the benchmark needs no machine: its command line, and the figures that it draws.
import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { parseOptions, UsageError } from "../bench/options.ts";
import { type Figure, svgOf, tableOf } from "../bench/plots/figure.ts";

describe("the benchmark's command line", () => {
  it("leaves out what is measured with one worker only, unless it is asked for, which is a mistake", () => {
    const { cases, workers, busy } = parseOptions(["--workers", "2", "--busy", "3"]);
    assert.deepEqual([workers, busy], [2, 3]);
    assert.ok(cases.includes("headers"));
    assert.ok(!cases.some((name) => name === "cpu" || name.startsWith("apisix")));
    assert.throws(() => parseOptions(["--workers", "2", "--cases", "echo,cpu"]), UsageError);
    assert.throws(() => parseOptions(["--workers", "2", "--strace"]), UsageError);
  });

  it("takes the names of plots as cases where plots are asked for", () => {
    assert.deepEqual(parseOptions(["--plots", "--cases", "start,chain"]).plots, ["chain", "start"]);
    assert.throws(() => parseOptions(["--plots", "--cases", "echo"]), UsageError);
    assert.deepEqual(parseOptions(["--cases", "echo"]).plots, []);
  });
});

describe("a figure", () => {
  const figure: Figure = {
    name: "sizes",
    title: "Bodies",
    x: { title: "size", log: true, show: (bytes) => `${bytes / 1024} KiB` },
    y: { title: "CPU, µs a request" },
    lines: [
      {
        name: "ts",
        points: [
          [1024, 31.25],
          [10_240, 12_345.6],
        ],
      },
      { name: "lua", points: [[1024, 7.126]], beside: "ts" },
    ],
    note: "A note.",
  };

  it("is a table with a column for each line", () => {
    assert.equal(
      tableOf(figure),
      [
        "Bodies: CPU, µs a request",
        "",
        "| size | ts | lua |",
        "| ---: | ---: | ---: |",
        "| 1 KiB | 31.3 | 7.13 |",
        "| 10 KiB | 12,346 |  |",
        "",
        "A note.",
      ].join("\n"),
    );
  });

  it("is a picture with its title, axes, values and lines", () => {
    const texts = [...svgOf(figure).matchAll(/<text[^>]*>([^<]*)<\/text>/g)].map((one) => one[1]);
    const wanted = ["Bodies", "size", "CPU, µs a request", "1 KiB", "10 KiB", "ts", "lua"];
    for (const text of wanted) assert.ok(texts.includes(text), `${text} of ${texts.join(", ")}`);
  });
});
