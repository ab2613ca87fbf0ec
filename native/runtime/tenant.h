/*
 * An environment that two threads run by turns: its own, and the Lua thread, for one synchronous call
 * while the first waits for something to do (channel/lease.h). See docs/adr/0009-the-workers-thread.md.
 *
 * Threads: the Node thread constructs, waits and destroys; Run and OnLate are on the Lua thread; Late on the
 * Node thread. Invariants: who does not hold the lease has no Locker and touches neither isolate nor
 * loop, but for uv_async_send, RequestInterrupt and uv_backend_fd's readiness. So what JavaScript
 * does to the loop on the Lua thread is what it does on the Node thread between two turns of uv_run,
 * or in a callback of the listener's: libuv allows both.
 */
#ifndef RTS_TENANT_H
#define RTS_TENANT_H

#include <node.h>
#include <uv.h>

#include <optional>

#include "channel/lease.h"
#include "runtime/backend.h"

namespace rts {

class Tenant {
 public:
  // exit_code: 0 or more when the environment ends. end: ends one wherever it is; its fail_code is set.
  Tenant(rts_host_context_t* host_context, v8::Isolate* isolate, v8::Local<v8::Context> context,
         uv_loop_t* loop, uv_async_t* waker, const int* exit_code,
         void (*end)(rts_host_context_t* host_context));
  ~Tenant();
  Tenant(const Tenant&) = delete;
  Tenant& operator=(const Tenant&) = delete;

  // Until the loop has something to do. Outside of uv_run, as that does not give the isolate away.
  void Wait();

 private:
  static void Unlock(void* data, int due_ms);
  static void Lock(void* data);
  static void Run(void* data);
  static void Late(void* data, int stalled);
  static void OnLate(v8::Isolate* isolate, void* data);
  int Due() const;

  rts_host_context_t* host_context_;
  v8::Isolate* isolate_;
  v8::Global<v8::Context> context_;
  uv_loop_t* loop_;
  uv_async_t* waker_;
  const int* exit_code_;
  void (*end_)(rts_host_context_t* host_context);
  std::optional<v8::HandleScope> handles_;  // V8 makes some when it is locked again (Node 24)
  std::optional<v8::Unlocker> unlocker_;
  bool is_back_soon_ = false;
  uint64_t wakes_at_ = 0;  // in the loop's time
  const rts_tenant_t tenant_ = {this, Unlock, Lock, Run, Late};
};

}  // namespace rts

#endif
