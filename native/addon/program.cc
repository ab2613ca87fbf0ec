/*
 * The addon of a host in a process of its own, resty_ts.node: the Channel, and how to meet workers.
 * The embedded backend has none of that: a Link takes any descriptor.
 */
#include <napi.h>

#include "addon/addon.h"
#include "addon/door.h"
#include "addon/link.h"

NAPI_MODULE_INIT() {
  Napi::Object classes(env, rts_addon_register(env, exports));
  classes.Set("Link", rts::DefineLink(env));
  classes.Set("Door", rts::DefineDoor(env));
  return classes;
}
