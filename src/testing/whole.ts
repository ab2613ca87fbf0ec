/** What a chain that filters bodies needs around it: the counterpart of lua/resty/ts/http/whole.lua. */
import { valueOf } from "./fields.js";
import type { RequestState } from "./request-state.js";

const PARTIAL = 206;
const DIGESTS = ["Content-MD5", "Digest", "Content-Digest", "Repr-Digest"];

export class Whole {
  readonly #state: RequestState;
  #acceptEncoding: string | undefined;
  #coding: string | undefined;
  #partial = false;
  #recoded = false;

  constructor(state: RequestState) {
    this.#state = state;
  }

  /** Before the upstream. */
  ask(): void {
    this.#acceptEncoding = valueOf(this.#state.requestFields, "accept-encoding");
    const hasRange = valueOf(this.#state.requestFields, "range") !== undefined;
    const names = ["Accept-Encoding", ...(hasRange ? ["Range", "If-Range"] : [])];
    for (const name of names) this.#state.setRequestField(name, []);
  }

  /** Before the headerFilter handlers. */
  begin(): void {
    const state = this.#state;
    if (this.#acceptEncoding !== undefined) {
      state.setRequestField("Accept-Encoding", [this.#acceptEncoding]);
    }
    this.#coding = valueOf(state.responseFields, "content-encoding");
    this.#partial = state.status === PARTIAL;
    if (this.#partial) return;
    for (const name of ["Accept-Ranges", ...DIGESTS]) state.setResponseField(name, []);
    const etag = valueOf(state.responseFields, "etag");
    if (etag === undefined || etag.startsWith("W/")) return;
    state.setResponseField("ETag", etag.startsWith('"') ? [`W/${etag}`] : []);
  }

  /** After them. */
  finish(): void {
    const state = this.#state;
    this.#recoded = valueOf(state.responseFields, "content-encoding") !== this.#coding;
    if (!this.#partial) state.setResponseField("Content-Length", []);
  }

  /** Whether the body must not pass as it came when a filter has failed. */
  get isClosed(): boolean {
    return this.#recoded || this.#partial || this.#state.status === PARTIAL;
  }
}
