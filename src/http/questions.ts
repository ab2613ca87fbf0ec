/**
 * What a phase asks of Lua: Lua waits in one call at a time, so the call's answer brings the questions,
 * and the next call, resume, the replies.
 *
 * Thread: the environment's own. Invariant: each call of Lua's is answered once.
 */
import { RestyTsError } from "../sdk/errors.js";
import type { Changes } from "./changes.js";
import { textOf } from "./text.js";

/** Lua has the last word on deadlines; a run that it has forgotten is given up this much later. */
const GRACE_MS = 1000;

export interface Question {
  /** Kind and arguments: docs/http-protocol.md. */
  readonly words: unknown[];
  readonly resolve: (values: unknown[]) => void;
  readonly reject: (error: unknown) => void;
}

/** Of one question: true and values, or false and a text. */
export type Reply = readonly unknown[];

/** Of all questions, in their order; a text: nginx has refused a change. */
export type Replies = readonly Reply[] | string;

export function settle({ resolve, reject }: Question, reply: Reply | undefined): void {
  const [ok, ...values] = reply ?? [false, "no reply"];
  if (ok === true) resolve(values);
  else reject(new RestyTsError("handler_failed", textOf(values[0]) ?? "failed"));
}

/** What a conversation needs of the run that it is part of. */
export interface Asking {
  /** @returns the answer that ends with these questions. */
  takeQuestions(questions: readonly Question[]): unknown[];
  /** Nobody has resumed it. */
  abort(reason: RestyTsError): void;
}

export class Conversation {
  private readonly asking: Asking;
  private readonly deadline: number;
  private answer: ((changes: Changes) => void) | undefined = undefined;
  private questions: Question[] = [];
  private asked: readonly Question[] = [];
  private timer: NodeJS.Timeout | undefined = undefined;

  /** @param deadline when Lua gives up, ms since the epoch. */
  constructor(asking: Asking, deadline: number) {
    this.asking = asking;
    this.deadline = deadline;
  }

  /** Lua waits from now on. @returns what it is told. */
  wait(): Promise<Changes> {
    return new Promise((resolve) => (this.answer = resolve));
  }

  /** Whether Lua waits: else it is busy with questions, or gone. */
  get isAwaited(): boolean {
    return this.answer !== undefined;
  }

  tell(changes: Changes): void {
    const { answer } = this;
    this.answer = undefined;
    answer?.(changes);
  }

  /** @returns the reply's values. */
  ask(words: unknown[]): Promise<unknown[]> {
    return new Promise((resolve, reject) => {
      this.questions.push({ words, resolve, reject });
      // All that is asked in one turn goes in one message.
      if (this.questions.length === 1) this.#sendSoon();
    });
  }

  resume(replies: Replies): Promise<Changes> {
    clearTimeout(this.timer);
    const { asked } = this;
    this.asked = [];
    const changes = this.wait();
    if (typeof replies === "string") {
      const error = new RestyTsError("bad_response", `nginx refused a change: ${replies}`);
      for (const { reject } of asked) reject(error);
    } else {
      for (const [i, question] of asked.entries()) settle(question, replies[i]);
    }
    if (this.questions.length > 0) this.#sendSoon();
    return changes;
  }

  /** The phase is over: what was not sent yet is somebody else's. */
  end(takeOver: (question: Question) => void): void {
    this.questions.splice(0).forEach(takeOver);
  }

  /** Lua is gone. */
  close(reason: RestyTsError): void {
    clearTimeout(this.timer);
    this.answer = undefined;
    for (const { reject } of [...this.asked, ...this.questions]) reject(reason);
    this.asked = this.questions = [];
  }

  #sendSoon(): void {
    queueMicrotask(() => {
      if (!this.isAwaited || this.questions.length === 0) return;
      this.asked = this.questions;
      this.questions = [];
      const changes = this.asking.takeQuestions(this.asked);
      this.timer = setTimeout(
        () => {
          this.asking.abort(new RestyTsError("aborted", "nginx did not answer what it was asked"));
        },
        Math.max(0, this.deadline - Date.now()) + GRACE_MS,
      );
      this.timer.unref();
      this.tell(changes);
    });
  }
}
