/** The interface of standardschema.dev, version 1, as far as it is used here. */

/** A validator: Zod, Valibot, ArkType and others have it on their schemas. */
export interface StandardSchemaV1<Input = unknown, Output = Input> {
  /** The standard's own property. */
  readonly "~standard": {
    /** The standard's version. */
    readonly version: 1;
    /** The library's name. */
    readonly vendor: string;
    /** Validates a configuration; issues mean that it is refused with "bad_config". */
    readonly validate: (value: unknown) => StandardResult<Output> | Promise<StandardResult<Output>>;
    /** For the compiler only. */
    readonly types?:
      | {
          /** What validate takes. */
          readonly input: Input;
          /** What it gives: the handlers' `conf`. */
          readonly output: Output;
        }
      | undefined;
  };
}

/** What validate gives: a value, or issues. */
export type StandardResult<Output> =
  | {
      /** The configuration, with defaults. */
      readonly value: Output;
      /** None. */
      readonly issues?: undefined;
    }
  | {
      /** What is wrong. */
      readonly issues: readonly StandardIssue[];
    };

/** One thing that is wrong with a configuration. */
export interface StandardIssue {
  /** In words: it is in the error log. */
  readonly message: string;
  /** Where, from the outside in. */
  readonly path?:
    | readonly (
        | PropertyKey
        | {
            /** The segment. */
            readonly key: PropertyKey;
          }
      )[]
    | undefined;
}
