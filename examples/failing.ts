// What happens when a handler fails: Lua gets `nil, "handler failed: <message>", "handler_failed"`,
// and the stack, with the lines of this file, goes to nginx's error log.
export function divide(a: number, b: number): number {
  if (b === 0) throw new RangeError("cannot divide by zero");
  return a / b;
}
