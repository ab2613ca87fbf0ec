import { decides } from "./decides.ts";

export default decides("decides-2");
