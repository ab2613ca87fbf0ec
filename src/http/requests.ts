/**
 * What Node keeps of a request from one message to the next.
 *
 * Thread: the environment's own. Invariant: Lua reports the end of every request that it has sent a
 * message of, and after all of these messages. A state enters the table while such a message is being
 * worked on, and at no other time, so it leaves the table whatever became of the request.
 */
import type { Run } from "./run.js";

export class RequestState {
  /** ctx.local. */
  local: Map<unknown, unknown> | undefined = undefined;
  /** By bodyRunKey: the runs that have begun to filter the body. */
  bodies: Map<number, Run> | undefined = undefined;
  /** The one that Lua waits for. */
  run: Run | undefined = undefined;
  /** The stream that answers it. */
  stream: number | undefined = undefined;
  /** Whether work goes on in the background, for which later phases must find the same state. */
  held = false;
}

export class Requests {
  readonly #states = new Map<number, RequestState>();

  get size(): number {
    return this.#states.size;
  }

  find(id: number): RequestState | undefined {
    return this.#states.get(id);
  }

  enter(id: number): RequestState {
    let state = this.#states.get(id);
    if (state === undefined) {
      state = new RequestState();
      this.#states.set(id, state);
    }
    return state;
  }

  /** A run is done: what holds nothing is not worth keeping. */
  leave(id: number, state: RequestState): void {
    state.run = undefined;
    const { local, bodies, stream, held } = state;
    if (local === undefined && bodies === undefined && stream === undefined && !held) {
      this.#states.delete(id);
    }
  }

  /** The request has ended. @returns what was kept for it. */
  end(id: number): RequestState | undefined {
    const state = this.#states.get(id);
    if (state !== undefined) this.#states.delete(id);
    return state;
  }
}
