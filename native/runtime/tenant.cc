/* See tenant.h. */
#include "runtime/tenant.h"

#include <sys/resource.h>

#include <cstring>

namespace rts {
namespace {

using v8::Context;
using v8::HandleScope;
using v8::Isolate;
using v8::Local;
using v8::String;

// V8 takes it that a thread has 1 MB for JavaScript from where it is entered.
constexpr rlim_t kLeastStackBytes = rlim_t{2} << 20;
// So many frames are looked at of a handler that is late.
constexpr int kFrames = 20;

bool HasStack() {
  struct rlimit stack;
  return getrlimit(RLIMIT_STACK, &stack) == 0 && stack.rlim_cur >= kLeastStackBytes;
}

// Whether what runs is a handler, or what that has called of Node, and not the host, which is not to
// be cut off halfway.
bool IsInHandler(Isolate* isolate, const char* host) {
  HandleScope handle_scope(isolate);
  Local<v8::StackTrace> trace = v8::StackTrace::CurrentStackTrace(isolate, kFrames);
  for (int i = 0; i < trace->GetFrameCount(); i++) {
    Local<String> name = trace->GetFrame(isolate, static_cast<uint32_t>(i))->GetScriptName();
    if (name.IsEmpty()) continue;
    String::Utf8Value text(isolate, name);
    if (*text != nullptr && strncmp(*text, "node:", 5) != 0) return strcmp(*text, host) != 0;
  }
  return false;
}

}  // namespace

Tenant::Tenant(rts_host_context_t* host_context, Isolate* isolate, Local<Context> context,
               uv_loop_t* loop, uv_async_t* waker, const int* exit_code,
               void (*end)(rts_host_context_t* host_context))
    : host_context_(host_context),
      isolate_(isolate),
      context_(isolate, context),
      loop_(loop),
      waker_(waker),
      exit_code_(exit_code),
      end_(end) {
  if (HasStack()) rts_lease_share(host_context->channel, &tenant_);
}

Tenant::~Tenant() { rts_lease_share(host_context_->channel, nullptr); }

void Tenant::Wait() {
  const int due_ms = Due();
  if (due_ms == 0) return;
  rts_lease_wait(host_context_->channel, due_ms);
  rts_lease_poll(host_context_->channel, uv_backend_fd(loop_), due_ms);
  rts_lease_resume(host_context_->channel);
}

// In ms; -1: never.
int Tenant::Due() const {
#if UV_VERSION_HEX < ((1 << 16) | (45 << 8))
  // Descriptors that epoll has not been told of.
  if (loop_->watcher_queue[0] != static_cast<const void*>(&loop_->watcher_queue)) return 0;
#endif
  return uv_backend_timeout(loop_);
}

void Tenant::Unlock(void* data, int due_ms) {
  auto* self = static_cast<Tenant*>(data);
  self->is_back_soon_ = due_ms == 0;
  self->wakes_at_ = due_ms < 0 ? UINT64_MAX : uv_now(self->loop_) + static_cast<uint64_t>(due_ms);
  self->handles_.emplace(self->isolate_);
  self->unlocker_.emplace(self->isolate_);
}

void Tenant::Lock(void* data) {
  auto* self = static_cast<Tenant*>(data);
  self->unlocker_.reset();
  self->handles_.reset();
  // A collection of garbage looks through the stack from where it begins in the thread that has entered
  // the isolate last (Node 20 and later).
  Isolate::Scope again(self->isolate_);
}

void Tenant::Run(void* data) {
  auto* self = static_cast<Tenant*>(data);
  rts_channel_t* channel = self->host_context_->channel;
  v8::Locker locker(self->isolate_);
  Isolate::Scope isolate_scope(self->isolate_);
  HandleScope handle_scope(self->isolate_);
  Context::Scope context_scope(self->context_.Get(self->isolate_));
  uv_update_time(self->loop_);
  rts_lease_deliver(channel);
  if (rts_lease_terminated(channel)) self->isolate_->CancelTerminateExecution();
  if (self->is_back_soon_) return;
  const int due_ms = self->Due();
  if (due_ms == 0 || *self->exit_code_ >= 0 ||
      (due_ms > 0 && uv_now(self->loop_) + static_cast<uint64_t>(due_ms) < self->wakes_at_)) {
    uv_async_send(self->waker_);
  }
}

void Tenant::Late(void* data, int stalled) {
  auto* self = static_cast<Tenant*>(data);
  if (stalled == 0) {
    self->isolate_->RequestInterrupt(&Tenant::OnLate, self);
    return;
  }
  pthread_mutex_lock(&self->host_context_->lock);
  const bool is_ending = self->host_context_->fail_code != 0;
  if (!is_ending) self->host_context_->fail_code = RTS_E_STALLED;
  pthread_mutex_unlock(&self->host_context_->lock);
  if (!is_ending) self->end_(self->host_context_);
}

// In the middle of JavaScript.
void Tenant::OnLate(Isolate* isolate, void* data) {
  auto* self = static_cast<Tenant*>(data);
  rts_channel_t* channel = self->host_context_->channel;
  if (!rts_lease_terminated(channel) && rts_lease_is_callers(channel) &&
      IsInHandler(isolate, self->host_context_->host)) {
    rts_lease_terminate(channel);
    isolate->TerminateExecution();
  }
}

}  // namespace rts
