import { arch } from "node:os";

export function add(a: number, b: number): number {
  return a + b;
}

export function where(): string {
  return arch();
}
