/** Floods: nothing fails by them, neither of the worker's own calls nor of its neighbours'. */
import { BOTH, expect, type Fault } from "./fault.js";

const MS = 30_000;
/** A large value goes by its size. */
const LARGE = { text: 20_000_000, texts: 100_000 };

export const FLOODS: Fault[] = [
  {
    name: "flood of lines",
    weight: 1,
    runtimes: BOTH,
    async run({ worker }) {
      expect("the flood", await worker.ask(`/fault?kind=lines&ms=${MS}`), "lines");
    },
  },
  {
    name: "flood of answers",
    weight: 1,
    runtimes: BOTH,
    async run({ worker }) {
      expect("the flood", await worker.ask("/flood"), "20000");
    },
  },
  ...Object.entries(LARGE).map(([kind, size]): Fault => ({
    name: `large ${kind}`,
    weight: 1,
    runtimes: BOTH,
    async run({ worker }) {
      expect("its size", await worker.ask(`/size?kind=${kind}&ms=${MS}`), String(size));
    },
  })),
  {
    name: "flood of stream pieces",
    weight: 1,
    runtimes: BOTH,
    async run({ worker }) {
      expect("the pieces", await worker.ask("/pieces"), "2000");
    },
  },
  {
    name: "flood of questions",
    weight: 1,
    runtimes: BOTH,
    async run({ worker }) {
      expect("the answer", await worker.ask("/asking"), "20000");
    },
  },
];
