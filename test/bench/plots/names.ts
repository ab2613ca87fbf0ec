// The plots by name, apart from what draws them: the command line needs no more.
export const PLOTS = [
  ...["chain", "fields", "bodies", "routes", "workers", "connections"],
  ...["latency", "nodes", "start"],
] as const;
export type Plot = (typeof PLOTS)[number];
