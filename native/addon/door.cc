/*
 * See door.h.
 *
 * Threads: the environment's own. Invariant: only processes of our own user, and root's, come in: a
 * worker has us load modules from where it says.
 */
#include "addon/door.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

#include <cerrno>
#include <cstring>
#include <string>

namespace rts {
namespace {

constexpr int kType = SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC;
constexpr int kBacklog = 64;

// Waits in libuv's loop for one descriptor; deletes itself when the loop has let go of it.
struct Watch {
  uv_poll_t poll;
  Napi::FunctionReference callback;
  std::unique_ptr<Napi::AsyncContext> context;
  napi_env env;
  napi_async_cleanup_hook_handle hook;
  int fd;  // ours

  void Call(napi_value argument) {
    napi_value result = nullptr;
    const napi_status status = napi_make_callback(env, *context, Napi::Env(env).Global(),
                                                  callback.Value(), 1, &argument, &result);
    if (status != napi_pending_exception) return;
    napi_value error = nullptr;
    napi_get_and_clear_last_exception(env, &error);
    napi_fatal_exception(env, error);
  }

  void Close() {
    if (uv_is_closing(reinterpret_cast<uv_handle_t*>(&poll))) return;
    uv_close(reinterpret_cast<uv_handle_t*>(&poll), [](uv_handle_t* handle) {
      auto* self = static_cast<Watch*>(handle->data);
      close(self->fd);
      napi_remove_async_cleanup_hook(self->hook);
      delete self;
    });
  }
};

// Owns fd. False, and fd closed, when it cannot be.
bool StartWatch(Napi::Env env, int fd, int events, const Napi::Value& callback, uv_poll_cb on) {
  uv_loop_t* loop = nullptr;
  auto* watch = new Watch();
  watch->fd = fd;
  watch->env = env;
  watch->poll.data = watch;
  if (fd < 0 || napi_get_uv_event_loop(env, &loop) != napi_ok ||
      uv_poll_init(loop, &watch->poll, fd) != 0) {
    if (fd >= 0) close(fd);
    delete watch;
    return false;
  }
  watch->callback = Napi::Persistent(callback.As<Napi::Function>());
  watch->context = std::make_unique<Napi::AsyncContext>(env, "resty-ts");
  uv_poll_start(&watch->poll, events, on);
  napi_add_async_cleanup_hook(
      env, [](napi_async_cleanup_hook_handle, void* data) { static_cast<Watch*>(data)->Close(); },
      watch, &watch->hook);
  return true;
}

// What is left of a host that is gone makes way.
void RemoveStale(const sockaddr_un& address) {
  struct stat status = {};
  if (lstat(address.sun_path, &status) != 0 || !S_ISSOCK(status.st_mode)) return;
  const int probe = socket(AF_UNIX, kType, 0);
  if (probe < 0) return;
  const auto* where = reinterpret_cast<const sockaddr*>(&address);
  if (connect(probe, where, sizeof(address)) != 0 && errno == ECONNREFUSED) {
    unlink(address.sun_path);
  }
  close(probe);
}

class Door : public Napi::ObjectWrap<Door> {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(env, "Door",
                       {
                           InstanceMethod<&Door::Listen>("listen"),
                           InstanceMethod<&Door::WatchLink>("watch"),
                       });
  }

  explicit Door(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Door>(info) {
    const std::string path = info[0].ToString();
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof(address.sun_path)) {
      Napi::Error::New(info.Env(), path + " is too long for a socket").ThrowAsJavaScriptException();
      return;
    }
    memcpy(address.sun_path, path.data(), path.size());
    RemoveStale(address);
    fd_ = socket(AF_UNIX, kType, 0);
    const mode_t mask = umask(0177);
    const bool bound =
        fd_ >= 0 && bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
    const int error = errno;
    umask(mask);
    if (!bound || listen(fd_, kBacklog) != 0) {
      Napi::Error::New(info.Env(), path + ": " + strerror(bound ? errno : error))
          .ThrowAsJavaScriptException();
    }
  }

 private:
  void Listen(const Napi::CallbackInfo& info) {
    StartWatch(info.Env(), fd_, UV_READABLE, info[0], [](uv_poll_t* handle, int, int) {
      auto* watch = static_cast<Watch*>(handle->data);
      const int fd = accept4(watch->fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      ucred peer = {};
      socklen_t length = sizeof(peer);
      if (fd < 0) return;
      if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0 ||
          (peer.uid != geteuid() && peer.uid != 0)) {
        close(fd);
        return;
      }
      Napi::HandleScope scope(watch->env);
      watch->Call(Napi::Number::New(watch->env, fd));
    });
  }

  void WatchLink(const Napi::CallbackInfo& info) {
    const int fd = fcntl(info[0].ToNumber().Int32Value(), F_DUPFD_CLOEXEC, 0);
    StartWatch(info.Env(), fd, UV_DISCONNECT, info[1], [](uv_poll_t* handle, int, int) {
      auto* watch = static_cast<Watch*>(handle->data);
      uv_poll_stop(handle);
      Napi::HandleScope scope(watch->env);
      watch->Call(Napi::Env(watch->env).Undefined());
      watch->Close();
    });
  }

  int fd_ = -1;  // the listening watch's, once there is one
};

}  // namespace

Napi::Function DefineDoor(Napi::Env env) { return Door::Define(env); }

}  // namespace rts
