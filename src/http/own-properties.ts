/** Maps whose keys somebody else chooses: one is there, or it is undefined, whatever its name. */

/** Takes the prototypes of all objects of a JSON value, in place. @returns the value. */
export function dropPrototypes<T>(value: T): T {
  if (typeof value !== "object" || value === null) return value;
  for (const item of Object.values(value)) dropPrototypes(item);
  return Object.getPrototypeOf(value) === Object.prototype
    ? (Object.setPrototypeOf(value, null) as T)
    : value;
}
