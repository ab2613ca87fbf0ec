// The smallest handler there is: a function that is exported.
export function add(a: number, b: number): number {
  return a + b;
}

/** Tables become arrays and objects, and the other way round. */
export function summary(values: number[]): { count: number; mean: number; max: number } {
  const total = values.reduce((sum, value) => sum + value, 0);
  return { count: values.length, mean: total / values.length, max: Math.max(...values) };
}
