// The package's own types of this entry do not resolve under NodeNext.
declare module "msgpackr/unpack" {
  export { Unpackr } from "msgpackr";
}
