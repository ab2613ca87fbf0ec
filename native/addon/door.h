/*
 * The Door class: where workers find a host that they have not started. Needs napi.h.
 *
 * new exports.Door(path): listens there; throws when somebody else does, or it cannot be.
 *   listen(callback)     calls back with the descriptor of each worker that connects: for new Link(fd)
 *   watch(fd, callback)  calls back once, when that worker is gone; fd stays whose it is
 */
#ifndef RTS_ADDON_DOOR_H
#define RTS_ADDON_DOOR_H

#include <napi.h>

namespace rts {

Napi::Function DefineDoor(Napi::Env env);

}  // namespace rts

#endif
