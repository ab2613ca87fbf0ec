/*
 * See link.h.
 *
 * Threads: the environment's own; Watch on one of its own, which hears the worker while JavaScript does
 * not come back to its loop. Invariant: link and channel live as long as the environment: whoever
 * uses them need not ask whether the worker is still there.
 */
#include "addon/link.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include <cstring>
#include <mutex>
#include <string>
#include <thread>

#include "addon/stack.h"
#include "channel/channel.h"
#include "channel/link.h"

namespace rts {
namespace {

// What a file of that descriptor holds; false with errno.
bool ReadAll(int fd, std::string* out) {
  struct stat status = {};
  if (fstat(fd, &status) != 0) return false;
  out->resize(static_cast<size_t>(status.st_size));
  size_t at = 0;
  while (at < out->size()) {
    const ssize_t n = pread(fd, &(*out)[at], out->size() - at, static_cast<off_t>(at));
    if (n <= 0) return false;
    at += static_cast<size_t>(n);
  }
  return true;
}

class Link : public Napi::ObjectWrap<Link> {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(env, "Link",
                       {
                           InstanceAccessor<&Link::GetChannel>("channel"),
                           InstanceAccessor<&Link::Settings>("settings"),
                           InstanceMethod<&Link::Tell>("tell"),
                           InstanceMethod<&Link::Listen>("listen"),
                       });
  }

  explicit Link(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Link>(info) {
    fd_ = info[0].ToNumber().Int32Value();
    fcntl(fd_, F_SETFD, FD_CLOEXEC);  // what a handler starts must not hold it open
    std::string error = Greet();
    if (!error.empty()) Napi::Error::New(info.Env(), error).ThrowAsJavaScriptException();
  }

  // The environment has ended: a worker thread's, or the process's. The worker sees the link close.
  ~Link() override {
    shutdown(fd_, SHUT_RDWR);
    if (watcher_.joinable()) watcher_.join();
    close(fd_);
    rts_channel_destroy(channel_);
  }

 private:
  // Waits for the worker's HELLO, which it sends before all else. Returns what is wrong.
  std::string Greet() {
    rts_link_message_t message;
    struct pollfd readable = {fd_, POLLIN, 0};
    int got = 0;
    while ((got = rts_link_receive(fd_, &message)) < 0 && errno == EAGAIN) {
      if (poll(&readable, 1, -1) < 0 && errno != EINTR) break;
    }
    if (got == 0) return "the worker is gone";
    if (got < 0) return std::string("the worker's first message: ") + strerror(errno);
    if (message.kind != RTS_LINK_HELLO || message.value != RTS_PROTOCOL ||
        message.fd_count != RTS_HELLO_FDS) {
      rts_link_drop(&message);
      return "the worker's library and resty_ts.node are of different versions";
    }
    const bool read = ReadAll(message.fds[RTS_HELLO_SETTINGS], &settings_);
    close(message.fds[RTS_HELLO_SETTINGS]);
    char text[256];
    size_t length = sizeof(text);
    if (rts_channel_attach(message.fds[RTS_HELLO_MEMORY], message.fds[RTS_HELLO_HOST_BELL],
                           message.fds[RTS_HELLO_BELLS], &channel_, text, &length) != RTS_OK) {
      return std::string(text, length);
    }
    return read ? "" : "the settings cannot be read";
  }

  Napi::Value GetChannel(const Napi::CallbackInfo& info) {
    return Napi::External<rts_channel_t>::New(info.Env(), channel_);
  }

  Napi::Value Settings(const Napi::CallbackInfo& info) {
    auto bytes = Napi::Uint8Array::New(info.Env(), settings_.size());
    memcpy(bytes.Data(), settings_.data(), settings_.size());
    return bytes;
  }

  // A worker that does not take it is going.
  void Tell(const Napi::CallbackInfo& info) {
    const std::string text = info[2].IsString() ? info[2].As<Napi::String>().Utf8Value() : "";
    rts_link_send(fd_, info[0].ToNumber().Uint32Value(), info[1].ToNumber().Uint32Value(),
                  text.data(), text.size(), nullptr, 0);
  }

  void Listen(const Napi::CallbackInfo& info) {
    uv_loop_t* loop = nullptr;
    if (!callback_.IsEmpty() || napi_get_uv_event_loop(info.Env(), &loop) != napi_ok) {
      Napi::Error::New(info.Env(), "the link is listened to already").ThrowAsJavaScriptException();
      return;
    }
    callback_ = Napi::Persistent(info[0].As<Napi::Function>());
    context_ = std::make_unique<Napi::AsyncContext>(info.Env(), "resty-ts");
    Ref();
    ended_.data = this;
    uv_async_init(loop, &ended_,
                  [](uv_async_t* handle) { static_cast<Link*>(handle->data)->OnEnd(); });
    probe_ = std::make_unique<StackProbe>(info.Env(), &Link::TellStack, this);
    napi_add_async_cleanup_hook(info.Env(), &Link::OnEnvironmentEnd, this, nullptr);
    watcher_ = std::thread(&Link::Watch, this);
  }

  void Watch() {
    rts_link_message_t message;
    struct pollfd readable = {fd_, POLLIN, 0};
    for (bool ending = false; !ending;) {
      const int got = rts_link_receive(fd_, &message);
      if (got < 0 && errno == EAGAIN) {
        poll(&readable, 1, -1);
        continue;
      }
      ending = got != 1 || message.kind == RTS_LINK_STOP;
      if (got == 1 && message.kind == RTS_LINK_STACK) probe_->Ask();
      if (got == 1) rts_link_drop(&message);
    }
    const std::lock_guard<std::mutex> guard(lock_);
    if (!closed_) uv_async_send(&ended_);
  }

  static void TellStack(void* data, const std::string& json) {
    const int memory = memfd_create("resty-ts-stack", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (memory < 0) return;
    if (write(memory, json.data(), json.size()) == static_cast<ssize_t>(json.size()) &&
        fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) == 0) {
      rts_link_send(static_cast<Link*>(data)->fd_, RTS_LINK_STACK, 0, nullptr, 0, &memory, 1);
    }
    close(memory);
  }

  void OnEnd() {
    Napi::Env env = Env();
    Napi::HandleScope scope(env);
    napi_value result = nullptr;
    napi_make_callback(env, *context_, env.Global(), callback_.Value(), 0, nullptr, &result);
  }

  static void OnEnvironmentEnd(napi_async_cleanup_hook_handle handle, void* data) {
    auto* self = static_cast<Link*>(data);
    self->probe_->Close();
    const std::lock_guard<std::mutex> guard(self->lock_);
    self->closed_ = true;
    self->ended_.data = handle;
    uv_close(reinterpret_cast<uv_handle_t*>(&self->ended_), [](uv_handle_t* closed) {
      napi_remove_async_cleanup_hook(static_cast<napi_async_cleanup_hook_handle>(closed->data));
    });
  }

  int fd_ = -1;
  rts_channel_t* channel_ = nullptr;
  std::string settings_;
  uv_async_t ended_ = {};
  std::mutex lock_;
  bool closed_ = false;  // the handle is: under lock_
  std::unique_ptr<StackProbe> probe_;
  std::thread watcher_;
  Napi::FunctionReference callback_;
  std::unique_ptr<Napi::AsyncContext> context_;
};

}  // namespace

Napi::Function DefineLink(Napi::Env env) { return Link::Define(env); }

}  // namespace rts
