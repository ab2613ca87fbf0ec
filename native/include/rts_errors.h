/*
 * The one error table. The C enum, lua/resty/ts/errors.lua, src/sdk/error-codes.ts and
 * docs/errors.md are generated from these rows (scripts/generate.ts), so a number or a
 * code string that has been released is never reused for something else.
 *
 * X(NAME, number, code, text, cure)
 *   number  what C functions return, negated; also travels in ERROR records
 *   code    the third result in Lua and `RestyTsError.code` in TypeScript
 *   text    what the Lua error string begins with
 */
#ifndef RTS_ERRORS_H
#define RTS_ERRORS_H

#define RTS_ERROR_MAP(X)                                                                          \
    X(TIMEOUT, 1, "timeout", "timeout",                                                           \
      "the handler did not answer in time: raise timeout_ms, or make the handler heed "           \
      "this.signal")                                                                              \
    X(QUEUE_FULL, 2, "queue_full", "queue full",                                                  \
      "more calls are pending than max_pending allows: the handlers are too slow for this load")  \
    X(UNAVAILABLE, 3, "unavailable", "unavailable",                                               \
      "the runtime is not running: the text says why, and so does the error log")                 \
    X(EXITED, 4, "exited", "runtime exited",                                                      \
      "the environment ended while the call was in flight, see the error log")                    \
    X(ABORTED, 5, "aborted", "aborted", "the caller went away before the answer; nothing to do")  \
    X(HANDLER_FAILED, 6, "handler_failed", "handler failed",                                      \
      "the handler threw or rejected: its stack is in the error log")                             \
    X(BAD_ARGUMENT, 7, "bad_argument", "bad argument",                                            \
      "an argument cannot be carried to TypeScript: the text says where and what it is")          \
    X(BAD_RESULT, 8, "bad_result", "bad result",                                                  \
      "the handler returned something that Lua cannot represent: the text says where")            \
    X(TOO_LARGE, 9, "too_large", "message too large", "raise max_message_bytes, or send less")    \
    X(MODULE_NOT_FOUND, 10, "module_not_found", "module not found",                               \
      "the file is not below the folder given as `modules` to ts.start")                          \
    X(MODULE_FAILED, 11, "module_failed", "module failed to load",                                \
      "the module does not compile or threw while loading: the text says where")                  \
    X(FUNCTION_NOT_FOUND, 12, "function_not_found", "function not found",                         \
      "the module has no exported function of this name")                                         \
    X(WRONG_PHASE, 13, "wrong_phase", "cannot wait in this phase",                                \
      "use ts.notify or ts.call_sync in phases that cannot yield")                                \
    X(NOT_STARTED, 14, "not_started", "not started",                                              \
      "call ts.start{...} in init_worker_by_lua* first")                                          \
    X(ALREADY_STARTED, 15, "already_started", "already started",                                  \
      "ts.start may be called once a worker; call ts.stop() before starting again")               \
    X(IN_MASTER, 16, "in_master", "cannot start in the master process",                           \
      "threads do not survive fork: call ts.start in init_worker_by_lua*, not in init_by_lua*")   \
    X(STOPPED, 17, "stopped", "stopped", "ts.stop was called, or the worker is exiting")          \
    X(PROTOCOL, 18, "protocol", "protocol error",                                                 \
      "a record in the channel is malformed: the library, the Lua files and the host must be "    \
      "of one version")                                                                           \
    X(NO_LIBNODE, 19, "no_libnode", "no libnode found",                                           \
      "install libnode (Debian: libnode-dev), or name the file with ts.start{ libnode = ... }")   \
    X(WRONG_ABI, 20, "wrong_abi", "wrong libnode version",                                        \
      "there is no backend libresty_ts_node<ABI>.so for this libnode: build one, or use a "       \
      "libnode that a backend is there for")                                                      \
    X(NO_HOST, 21, "no_host", "host file missing",                                                \
      "run `npm run build`, or name the file with ts.start{ host = ... }")                        \
    X(START_TIMEOUT, 22, "start_timeout", "start timed out",                                      \
      "the runtime was not ready in time: the error log says how far it got")                     \
    X(BAD_OPTION, 23, "bad_option", "bad option", "the text names the option and what it takes")  \
    X(SYSTEM, 24, "system", "system error",                                                       \
      "a system call failed: the text names it and its reason")                                   \
    X(BAD_CONFIG, 25, "bad_config", "bad plugin configuration",                                   \
      "the text names the plugin, the path in its configuration and what was expected there")     \
    X(BAD_PLUGIN, 26, "bad_plugin", "bad plugin",                                                 \
      "the plugin's file does not export what definePlugin makes: the text says what is wrong")   \
    X(BAD_RESPONSE, 27, "bad_response", "bad request or response change",                         \
      "a plugin set a field, status, URI or body that HTTP does not allow there: the text says "  \
      "which")                                                                                    \
    X(STALLED, 28, "stalled", "runtime stalled",                                                  \
      "a handler kept the environment busy past its deadline and stall_ms, so it was ended: the " \
      "handler's stack is in the error log")                                                      \
    X(OUT_OF_MEMORY, 29, "out_of_memory", "out of memory",                                        \
      "the environment reached max_heap_mb or max_external_mb and was ended: raise it, or find "  \
      "the leak")                                                                                 \
    X(NO_NODE, 30, "no_node", "no usable node",                                                   \
      "install Node 18 or later, or name the program with ts.start{ node = ... }")                \
    X(BAD_REQUEST, 31, "bad_request", "bad request",                                              \
      "the client sent what cannot be read, malformed JSON say: it is answered 400, unless the "  \
      "plugin catches the error")                                                                 \
    X(UNSUPPORTED_MEDIA_TYPE, 32, "unsupported_media_type", "unsupported media type",             \
      "the client sent a body of a type or encoding that the plugin cannot read: it is answered " \
      "415, unless the plugin catches the error")

#endif
