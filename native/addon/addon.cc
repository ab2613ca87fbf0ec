/*
 * The Channel class of addon.h. With door.cc, link.cc and program.cc the only file with napi.h.
 *
 * Threads: the environment's own; no mutable globals, so each environment of a process has its
 * own copy. Invariant: the mapping outlives the environment (its owner joins the thread first).
 */
#include "addon/addon.h"

#include <napi.h>

#include <string>

#include "addon/listener.h"
#include "channel/lease.h"

namespace rts {
namespace {

uint32_t WordIndex(const rts_channel_t* channel, const rts_atomic_u32* word) {
  size_t bytes = 0;
  const uint8_t* base = rts_host_memory(channel, &bytes);
  return static_cast<uint32_t>(reinterpret_cast<const uint8_t*>(word) - base) / 4;
}

class Channel : public Napi::ObjectWrap<Channel> {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(env, "Channel",
                       {
                           InstanceAccessor<&Channel::Memory>("memory"),
                           InstanceAccessor<&Channel::Layout>("layout"),
                           InstanceMethod<&Channel::Listen>("listen"),
                           InstanceMethod<&Channel::Wake>("wake"),
                           InstanceMethod<&Channel::Close>("close"),
                       });
  }

  // An External: a channel that somebody else owns. A number: a new one with rings of that size.
  explicit Channel(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Channel>(info) {
    if (info[0].IsExternal()) {
      channel_ = info[0].As<Napi::External<rts_channel_t>>().Data();
      return;
    }
    char text[256];
    size_t length = sizeof(text);
    const uint32_t ring_bytes = info[0].ToNumber().Uint32Value();
    if (rts_channel_create(ring_bytes, 0, &channel_, text, &length) != RTS_OK) {
      channel_ = nullptr;
      Napi::Error::New(info.Env(), std::string(text, length)).ThrowAsJavaScriptException();
      return;
    }
    owned_ = true;
  }

  ~Channel() override {
    if (owned_ && listener_ == nullptr) rts_channel_destroy(channel_);
  }

 private:
  Napi::Value Memory(const Napi::CallbackInfo& info) {
    if (memory_.IsEmpty()) {
      size_t bytes = 0;
      uint8_t* base = rts_host_memory(channel_, &bytes);
      memory_ = Napi::Persistent(Napi::ArrayBuffer::New(info.Env(), base, bytes));
    }
    return memory_.Value();
  }

  Napi::Value Layout(const Napi::CallbackInfo& info) {
    uint32_t sq_offset = 0;
    uint32_t cq_offset = 0;
    uint32_t ring_bytes = 0;
    rts_host_layout(channel_, &sq_offset, &cq_offset, &ring_bytes);
    rts_control_t* control = rts_host_control(channel_);
    Napi::Object layout = Napi::Object::New(info.Env());
    const struct {
      const char* name;
      uint32_t value;
    } fields[] = {
        {"sqOffset", sq_offset},
        {"cqOffset", cq_offset},
        {"ringBytes", ring_bytes},
        {"protocol", control->protocol},
        {"sqTail", WordIndex(channel_, &control->sq_tail)},
        {"sqHead", WordIndex(channel_, &control->sq_head)},
        {"sqBegun", WordIndex(channel_, &control->sq_begun)},
        {"sqRoom", WordIndex(channel_, &control->sq_room)},
        {"cqTail", WordIndex(channel_, &control->cq_tail)},
        {"cqHead", WordIndex(channel_, &control->cq_head)},
        {"cqSleep", WordIndex(channel_, &control->cq_sleep)},
        {"cqRoom", WordIndex(channel_, &control->cq_room)},
    };
    for (const auto& field : fields) {
      layout.Set(field.name, Napi::Number::New(info.Env(), field.value));
    }
    return layout;
  }

  void Listen(const Napi::CallbackInfo& info) {
    uv_loop_t* loop = nullptr;
    if (listener_ != nullptr || napi_get_uv_event_loop(info.Env(), &loop) != napi_ok) {
      Napi::Error::New(info.Env(), "the channel is listened to already")
          .ThrowAsJavaScriptException();
      return;
    }
    callback_ = Napi::Persistent(info[0].As<Napi::Function>());
    context_ = std::make_unique<Napi::AsyncContext>(info.Env(), "resty-ts");
    listener_ =
        new Listener(loop, channel_, info[1].ToNumber().Uint32Value(), &Channel::Deliver, this);
    rts_lease_set_deliver(channel_, &Channel::Deliver, this);
    Ref();  // not collected while libuv calls back
    napi_add_async_cleanup_hook(info.Env(), &Channel::OnEnvironmentEnd, this, &cleanup_);
  }

  static uint32_t Deliver(void* data, uint32_t most) {
    auto* self = static_cast<Channel*>(data);
    Napi::Env env = self->Env();
    Napi::HandleScope scope(env);
    // Plain Node-API: an environment that is ending calls nothing and throws nothing.
    napi_value count = nullptr;
    napi_value argument = nullptr;
    napi_create_uint32(env, most, &argument);
    const napi_status status = napi_make_callback(env, *self->context_, env.Global(),
                                                  self->callback_.Value(), 1, &argument, &count);
    if (status == napi_pending_exception) {
      napi_value error = nullptr;
      napi_get_and_clear_last_exception(env, &error);
      if (!rts_lease_terminated(self->channel_)) napi_fatal_exception(env, error);
    }
    uint32_t value = 0;
    if (status == napi_ok) napi_get_value_uint32(env, count, &value);
    return value;
  }

  void Wake(const Napi::CallbackInfo& info) {
    size_t bytes = 0;
    uint8_t* base = rts_host_memory(channel_, &bytes);
    const uint32_t word = info[0].As<Napi::Number>().Uint32Value();
    if (word >= RTS_CONTROL_BYTES / 4) return;
    rts_host_wake(channel_, reinterpret_cast<rts_atomic_u32*>(base) + word,
                  info[1].As<Napi::Number>().Uint32Value());
  }

  void Close(const Napi::CallbackInfo&) {
    if (listener_ == nullptr) return;
    if (cleanup_ != nullptr) napi_remove_async_cleanup_hook(cleanup_);
    cleanup_ = nullptr;
    rts_lease_set_deliver(channel_, nullptr, nullptr);
    listener_->Close(&Channel::OnListenerClosed, this);
    listener_ = nullptr;
  }

  static void OnListenerClosed(void* data) {
    auto* self = static_cast<Channel*>(data);
    Napi::HandleScope scope(self->Env());
    self->context_.reset();
    self->callback_.Reset();
    self->Unref();
  }

  // The environment ends: its loop must have no handle of ours left. No JavaScript any more.
  static void OnEnvironmentEnd(napi_async_cleanup_hook_handle handle, void* data) {
    auto* self = static_cast<Channel*>(data);
    rts_lease_set_deliver(self->channel_, nullptr, nullptr);
    Listener* listener = self->listener_;
    self->listener_ = nullptr;
    listener->Close(
        [](void* hook) {
          napi_remove_async_cleanup_hook(static_cast<napi_async_cleanup_hook_handle>(hook));
        },
        handle);
  }

  rts_channel_t* channel_ = nullptr;
  bool owned_ = false;
  Listener* listener_ = nullptr;
  napi_async_cleanup_hook_handle cleanup_ = nullptr;
  Napi::FunctionReference callback_;
  Napi::Reference<Napi::ArrayBuffer> memory_;
  std::unique_ptr<Napi::AsyncContext> context_;
};

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  exports.Set("Channel", Channel::Define(env));
  return exports;
}

}  // namespace
}  // namespace rts

extern "C" napi_value rts_addon_register(napi_env env, napi_value exports) {
  return Napi::RegisterModule(env, exports, rts::Init);
}
