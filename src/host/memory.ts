/**
 * A bound of what an environment in a process of its own holds outside of JavaScript's heap: Buffers
 * above all. In the embedded runtime native/runtime/embedded.cc has it, which sees endless loops, too.
 *
 * Thread: the environment's own.
 */
import { getHeapStatistics, setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

const LOOK_MS = 100;
/** One part of the time may go into looking for what is still in use. */
const LOOK_PARTS = 10;

function collector(): () => void {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  setFlagsFromString("--no-expose-gc");
  return collect;
}

export function boundExternalMemory(maxMb: number, onFull: () => void): void {
  const isFull = (): boolean => getHeapStatistics().external_memory >= maxMb * 2 ** 20;
  let collect: (() => void) | undefined;
  let lookFrom = 0;
  const look = (): void => {
    const start = performance.now();
    if (start < lookFrom || !isFull()) return;
    collect ??= collector();
    // A collection frees Buffers in the background; the next one waits for that.
    collect();
    collect();
    const now = performance.now();
    lookFrom = now + (now - start) * LOOK_PARTS;
    if (isFull()) onFull();
  };
  setInterval(look, LOOK_MS).unref();
}
