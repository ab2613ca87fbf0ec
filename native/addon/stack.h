/*
 * Where JavaScript is, asked from another thread while it does not come back to its loop.
 *
 * Node-API has nothing for that, and V8's headers would tie the addon to one Node. So V8's functions
 * are looked up by their names, which are the same from Node 18 to 26; where one is missing, the
 * stack is not known. Values and scopes are Node-API's: a napi_value is V8's Local.
 */
#ifndef RTS_ADDON_STACK_H
#define RTS_ADDON_STACK_H

#include <node_api.h>

#include <memory>
#include <mutex>
#include <string>

namespace rts {

class StackProbe {
 public:
  using Told = void (*)(void* data, const std::string& json);

  // told gets what rts_runtime_stack gives, on the environment's thread; never after Close.
  // Threads: the environment's own.
  StackProbe(napi_env env, Told told, void* data);

  // Has `told` called when JavaScript runs next, or now. Threads: any.
  void Ask();

  // The environment ends. Threads: its own.
  void Close();

 private:
  void Tell();

  std::mutex lock_;
  napi_env env_;  // nullptr: it has ended
  void* isolate_;
  Told told_;
  void* data_;
};

}  // namespace rts

#endif
