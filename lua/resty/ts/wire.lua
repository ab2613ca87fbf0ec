-- Constants of docs/wire-format.md, as record.h has them for C and wire.ts for TypeScript.
-- test/conformance compares the three.
return {
    HEADER_BYTES = 24,
    MAX_DEPTH = 100,
    MAX_ELEMENTS = 1000000,
    FLAG_MORE = 1,

    KIND_CALL = 1,
    KIND_NOTIFY = 2,
    KIND_CANCEL = 3,
    KIND_MODULE = 4,
    KIND_FUNCTION = 5,
    KIND_CHUNK = 6,
    KIND_RESULT = 16,
    KIND_ERROR = 17,
    KIND_READY = 18,
    KIND_LOG = 19,
    KIND_ASK = 20,
    KIND_WAIT = 21,
    KIND_LOGGED = 22,
}
