// A package from npm, installed as for any Node program: node_modules is looked for from here upwards.
import { marked } from "marked";

export function hello(name: string): Promise<string> | string {
  return marked.parse(`Hello, **${name}**!`);
}
