/*
 * The Link class: how a host in a process of its own meets its worker. Needs napi.h.
 *
 * new exports.Link(fd): takes what the worker has sent by that socket, which it owns from then on.
 *   channel: External    for new exports.Channel(…)
 *   settings: Uint8Array as main takes them
 *   tell(kind, value, text?)  a message to the worker: its kind as in channel/link.h
 *   listen(callback)     calls back once, when the worker wants the host to end or is gone
 */
#ifndef RTS_ADDON_LINK_H
#define RTS_ADDON_LINK_H

#include <napi.h>

namespace rts {

Napi::Function DefineLink(Napi::Env env);

}  // namespace rts

#endif
