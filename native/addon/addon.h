/*
 * The channel as a JavaScript object: the one symbol that others need of this room.
 *
 * new exports.Channel(external) is a channel that the embedder owns; new exports.Channel(ringBytes)
 * makes one, for tests in a plain node. It has:
 *   memory: ArrayBuffer   the whole mapping; lives as long as the environment
 *   layout                byte offsets of the rings and 32-bit word indexes of the cursors
 *   listen(callback, spinUs)   calls callback when there may be submissions, or room;
 *                       it returns how many it handled, and in the
 *                       high 16 bits how many calls are pending
 *   wake(word, bits)      wakes Lua after bits were taken from the flag at that word index
 *   close()               stops listening
 * In resty_ts.node also new exports.Link(fd), new exports.Door(path): see link.h, door.h.
 */
#ifndef RTS_ADDON_H
#define RTS_ADDON_H

#include <node_api.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Threads: the environment's. Owns: nothing of the channel that is opened. */
napi_value rts_addon_register(napi_env env, napi_value exports);

#ifdef __cplusplus
}
#endif

#endif
