/**
 * Lua has one empty table, which comes as {}: where an array is wanted it is put in its place.
 *
 * Thread: any; no state.
 */

function isEmptyObject(value: unknown): boolean {
  return (
    typeof value === "object" &&
    value !== null &&
    !ArrayBuffer.isView(value) &&
    !Array.isArray(value) &&
    Object.keys(value).length === 0
  );
}

/**
 * Puts [] in the place of an empty object.
 *
 * @param holder of the value in which it is. @param steps the way to it.
 * @returns whether there was one.
 */
export function putArray(holder: { value: unknown }, steps: readonly PropertyKey[]): boolean {
  let parent: Record<PropertyKey, unknown> = holder;
  let last: PropertyKey = "value";
  for (const step of steps) {
    const next = parent[last];
    if (typeof next !== "object" || next === null || !Object.hasOwn(next, step)) return false;
    parent = next as Record<PropertyKey, unknown>;
    last = step;
  }
  if (!isEmptyObject(parent[last])) return false;
  parent[last] = [];
  return true;
}
