/*
 * One Node environment in the Node thread: with tenant.cc the only file with node.h and v8.h.
 *
 * Threads: Run on the Node thread, again and again in one process; Interrupt on any; Dispose on
 * the thread that leaves the process. What is called in the middle of JavaScript, or by V8, may be on
 * the Lua thread, too (tenant.h).
 * Invariant: context->env is set while node::Stop may be called on it, under context->lock.
 * V8 and Node are initialized once a process and never torn down under a running environment.
 */
#include <malloc.h>
#include <node.h>
#include <node_api.h>
#include <uv.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "addon/addon.h"
#include "runtime/backend.h"
#include "runtime/child_reaping.h"
#include "runtime/guard.h"
#include "runtime/pages.h"
#include "runtime/tenant.h"

namespace rts {
namespace {

using v8::Context;
using v8::Function;
using v8::HandleScope;
using v8::Isolate;
using v8::Local;
using v8::Locker;
using v8::MaybeLocal;
using v8::Object;
using v8::String;
using v8::TryCatch;
using v8::Value;

struct Once {
  std::unique_ptr<node::MultiIsolatePlatform> platform;
  std::vector<std::string> args;
  std::vector<std::string> exec_args;
  std::string error;
};

// Environments may be started at the same time.
pthread_mutex_t once_lock = PTHREAD_MUTEX_INITIALIZER;
Once* once = nullptr;

// What a full heap may grow by while JavaScript ends.
constexpr size_t kUnwindBytes = size_t{64} << 20;

// One part of the time may go into looking for what external memory is still in use.
constexpr uint64_t kLookParts = 10;
// By then plugins are loaded, most often, and what that has used of libnode is given back.
constexpr uint64_t kStartMs = 1000;

// What the interrupts below know of the environment that they interrupt; under context->lock.
struct Interrupted {
  rts_host_context_t* host_context;
  Isolate* isolate;
  node::Environment* env;
  std::string why;  // it is ended; "": fail_code says all
  // Of the thread that has the isolate.
  bool looking;
  uint64_t look_from;  // uv_hrtime: not before then
};

class LockGuard {
 public:
  explicit LockGuard(pthread_mutex_t* lock) : lock_(lock) { pthread_mutex_lock(lock_); }
  ~LockGuard() { pthread_mutex_unlock(lock_); }
  LockGuard(const LockGuard&) = delete;
  LockGuard& operator=(const LockGuard&) = delete;

 private:
  pthread_mutex_t* lock_;
};

// Nothing of the worker that nginx set up is changed: no signal handlers, no descriptor limits,
// no stdio, no NODE_OPTIONS.
Once* InitializeOnce(const rts_host_context_t* host_context) {
  if (once != nullptr) return once;
  once = new Once;
#ifdef __GLIBC__
  // glibc's own defaults, but fixed: it raises both to the size of the largest block that was freed,
  // after which messages of some MiB come from the heap and leave it in pieces (measured: the
  // resident memory of 2 million calls ended between 220 and 290 MiB, and now between 198 and 218).
  if (host_context->tune_malloc != 0) {
    mallopt(M_MMAP_THRESHOLD, 128 * 1024);
    mallopt(M_TRIM_THRESHOLD, 128 * 1024);
  }
#endif
  std::vector<std::string> args = {"resty-ts"};
  auto flags = static_cast<node::ProcessInitializationFlags::Flags>(
      node::ProcessInitializationFlags::kNoInitializeV8 |
      node::ProcessInitializationFlags::kNoInitializeNodeV8Platform |
      node::ProcessInitializationFlags::kNoDefaultSignalHandling |
      node::ProcessInitializationFlags::kNoStdioInitialization |
      node::ProcessInitializationFlags::kNoAdjustResourceLimits |
      node::ProcessInitializationFlags::kDisableNodeOptionsEnv |
      node::ProcessInitializationFlags::kNoPrintHelpOrVersionOutput |
      node::ProcessInitializationFlags::kNoUseLargePages);
  auto result = node::InitializeOncePerProcess(args, flags);
  for (const std::string& error : result->errors()) once->error += error + " ";
  if (result->early_return()) {
    once->error += "Node's initialization ended early";
    return once;
  }
  once->args = result->args();
  once->exec_args = result->exec_args();
  // V8's helpers (garbage collection, compilation) beside nginx's and Node's threads.
  const unsigned cores = uv_available_parallelism();
  once->platform =
      node::MultiIsolatePlatform::Create(static_cast<int>(std::clamp(cores, 2u, 5u)) - 1);
  v8::V8::InitializePlatform(once->platform.get());
  // Of every isolate of the process: Node's API for embedders makes them without limits of their own.
  if (host_context->max_heap_mb > 0) {
    const std::string mb = std::to_string(host_context->max_heap_mb);
    v8::V8::SetFlagsFromString(("--max-old-space-size=" + mb).c_str());
  }
  v8::V8::Initialize();
  return once;
}

std::string Describe(Isolate* isolate, Local<Context> context, const TryCatch& caught) {
  MaybeLocal<Value> stack = caught.StackTrace(context);
  Local<Value> text;
  if (!stack.ToLocal(&text) || !text->IsString()) text = caught.Exception();
  if (text.IsEmpty()) return "terminated";
  String::Utf8Value utf8(isolate, text);
  return *utf8 != nullptr ? std::string(*utf8, utf8.length()) : "unknown error";
}

// Set while StartHost asks for the binding: whoever else does, by process._linkedBinding, gets an empty
// one. From Node 20 on, Node-API reads no External but those of its own making, and only a binding
// has a napi_env to make one with.
thread_local rts_channel_t* offered_channel = nullptr;

napi_value RegisterBinding(napi_env env, napi_value exports) {
  napi_value classes;
  napi_value channel;
  if (offered_channel != nullptr && napi_create_object(env, &classes) == napi_ok &&
      napi_create_external(env, offered_channel, nullptr, nullptr, &channel) == napi_ok) {
    napi_set_named_property(env, exports, "channel", channel);
    napi_set_named_property(env, exports, "classes", rts_addon_register(env, classes));
  }
  return exports;
}

// Node keeps a pointer to it.
const napi_module kBinding = {NAPI_MODULE_VERSION, 0,       __FILE__, RegisterBinding,
                              "resty_ts",          nullptr, {}};

MaybeLocal<Value> CallMethod(Isolate* isolate, Local<Context> context, Local<Value> receiver,
                             const char* name, int argc, Local<Value>* argv) {
  Local<Value> function;
  if (!receiver->IsObject() ||
      !receiver.As<Object>()
           ->Get(context, String::NewFromUtf8(isolate, name).ToLocalChecked())
           .ToLocal(&function) ||
      !function->IsFunction()) {
    isolate->ThrowException(v8::Exception::TypeError(
        String::NewFromUtf8(isolate, (std::string(name) + " is not a function").c_str())
            .ToLocalChecked()));
    return {};
  }
  return function.As<Function>()->Call(context, receiver, argc, argv);
}

// require("module").createRequire(host)(host).main(classes, channel, settings)
MaybeLocal<Value> StartHost(const rts_host_context_t* host_context, Isolate* isolate,
                            Local<Context> context, Local<Object> process,
                            Local<Function> native_require) {
  auto text = [&](const char* s) -> Local<Value> {
    return String::NewFromUtf8(isolate, s).ToLocalChecked();
  };
  Local<Value> module_name = text("module");
  Local<Value> host_path = text(host_context->host);
  Local<Value> binding_name = text("resty_ts");
  Local<Value> module;
  Local<Value> require;
  Local<Value> host;
  Local<Value> binding;
  Local<Value> classes;
  Local<Value> channel;
  offered_channel = host_context->channel;
  const bool has_binding =
      CallMethod(isolate, context, process, "_linkedBinding", 1, &binding_name).ToLocal(&binding);
  offered_channel = nullptr;
  if (!has_binding) return {};
  // Node keeps the object, and gives it to whoever asks.
  auto take = [&](const char* name, Local<Value>* out) {
    Local<Object> from = binding.As<Object>();
    return from->Get(context, text(name)).ToLocal(out) &&
           from->Delete(context, text(name)).IsJust();
  };
  if (!take("classes", &classes) || !take("channel", &channel)) return {};
  if (!native_require->Call(context, v8::Undefined(isolate), 1, &module_name).ToLocal(&module) ||
      !CallMethod(isolate, context, module, "createRequire", 1, &host_path).ToLocal(&require) ||
      !require.As<Function>()
           ->Call(context, v8::Undefined(isolate), 1, &host_path)
           .ToLocal(&host)) {
    return {};
  }
  Local<v8::ArrayBuffer> buffer = v8::ArrayBuffer::New(isolate, host_context->settings_bytes);
  memcpy(buffer->GetBackingStore()->Data(), host_context->settings, host_context->settings_bytes);
  Local<Value> settings = v8::Uint8Array::New(buffer, 0, host_context->settings_bytes);
  Local<Value> argv[] = {classes, channel, settings};
  return CallMethod(isolate, context, host, "main", 3, argv);
}

std::string JsonString(Isolate* isolate, Local<String> text) {
  std::string json = "\"";
  String::Utf8Value utf8(isolate, text);
  // An int in older V8s, a size_t in newer ones.
  for (const char c : std::string(*utf8, static_cast<size_t>(utf8.length()))) {
    if (c == '"' || c == '\\') {
      json += '\\';
      json += c;
    } else {
      json += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
  }
  return json + "\"";
}

// As rts_runtime_stack gives it.
std::string DescribeStack(Isolate* isolate) {
  Local<v8::StackTrace> trace = v8::StackTrace::CurrentStackTrace(isolate, 10);
  std::string json;
  for (int i = 0; i < trace->GetFrameCount(); i++) {
    Local<v8::StackFrame> frame = trace->GetFrame(isolate, i);
    auto field = [&](const char* name, Local<String> text) {
      if (!text.IsEmpty())
        json += std::string("\"") + name + "\":" + JsonString(isolate, text) + ",";
    };
    json += json.empty() ? "[{" : ",{";
    field("function", frame->GetFunctionName());
    field("script", frame->GetScriptName());
    field("map", frame->GetScriptSourceMappingURL());
    json += "\"line\":" + std::to_string(frame->GetLineNumber()) +
            ",\"column\":" + std::to_string(frame->GetColumn()) + "}";
  }
  return json.empty() ? json : json + "]";
}

// Ends JavaScript wherever it is, and then the loop. The lock is held, and there is an environment.
void EndNow(rts_host_context_t* host_context) {
  node::Stop(static_cast<Interrupted*>(host_context->env)->env);
  if (host_context->stopper != nullptr) {
    uv_async_send(static_cast<uv_async_t*>(host_context->stopper));
  }
}

// In the middle of JavaScript.
void OnInterrupt(Isolate* isolate, void* data) {
  auto* host_context = static_cast<rts_host_context_t*>(data);
  HandleScope handle_scope(isolate);
  const std::string stack = DescribeStack(isolate);
  LockGuard guard(&host_context->lock);
  if (host_context->env == nullptr) return;
  free(host_context->stack);
  host_context->stack = strdup(stack.c_str());
  EndNow(host_context);
}

// V8 has no room left; what it returns lets JavaScript unwind. node::Stop, as Node aborts in its
// own checks when execution is terminated without its knowing.
size_t OnNearHeapLimit(void* data, size_t current, size_t initial) {
  auto* host_context = static_cast<rts_host_context_t*>(data);
  LockGuard guard(&host_context->lock);
  if (host_context->env != nullptr) {
    if (host_context->fail_code == 0) host_context->fail_code = RTS_E_OUT_OF_MEMORY;
    EndNow(host_context);
  }
  return current + std::max(initial / 2, kUnwindBytes);
}

bool IsExternalFull(const Interrupted* interrupted) {
  v8::HeapStatistics statistics;
  interrupted->isolate->GetHeapStatistics(&statistics);
  return statistics.external_memory() >> 20 >= interrupted->host_context->max_external_mb;
}

// In the middle of JavaScript. A collection frees Buffers in the background: what the one that has
// just been counted is not yet what lives. This one is complete, and waits for those before it.
void LookAtExternal(Isolate* isolate, void* data) {
  auto* interrupted = static_cast<Interrupted*>(data);
  rts_host_context_t* host_context = interrupted->host_context;
  const uint64_t start = uv_hrtime();
  isolate->LowMemoryNotification();
  const bool full = IsExternalFull(interrupted);
  const uint64_t now = uv_hrtime();
  interrupted->look_from = now + (now - start) * kLookParts;
  interrupted->looking = false;
  LockGuard guard(&host_context->lock);
  if (!full || host_context->env == nullptr) return;
  if (host_context->fail_code == 0) {
    host_context->fail_code = RTS_E_OUT_OF_MEMORY;
    interrupted->why = "memory outside of the heap (Buffers) has reached max_external_mb, " +
                       std::to_string(host_context->max_external_mb);
  }
  EndNow(host_context);
}

// V8 collects all when external memory has grown: no need to look at other times.
void OnCollected(Isolate* isolate, v8::GCType, v8::GCCallbackFlags, void* data) {
  auto* interrupted = static_cast<Interrupted*>(data);
  if (interrupted->looking || uv_hrtime() < interrupted->look_from ||
      !IsExternalFull(interrupted)) {
    return;
  }
  interrupted->looking = true;
  isolate->RequestInterrupt(LookAtExternal, interrupted);
}

void Interrupt(rts_host_context_t* context, int hard);

// node::SpinEventLoop, but for two things: it can be asked to end between two turns of the loop,
// where no JavaScript and none of Node's own callbacks is cut off; and it waits outside of libuv.
void RunLoop(rts_host_context_t* host_context, node::CommonEnvironmentSetup* setup,
             node::MultiIsolatePlatform* platform, const int* exit_code) {
  uv_loop_t* loop = setup->event_loop();
  uv_async_t stopper;
  uv_async_init(loop, &stopper, [](uv_async_t* handle) { uv_stop(handle->loop); });
  uv_unref(reinterpret_cast<uv_handle_t*>(&stopper));
  uv_timer_t started;
  uv_timer_init(loop, &started);
  uv_timer_start(
      &started, [](uv_timer_t*) { rts_pages_give_back(); }, kStartMs, 0);
  uv_unref(reinterpret_cast<uv_handle_t*>(&started));
  bool stop;
  {
    LockGuard guard(&host_context->lock);
    host_context->stopper = &stopper;
    stop = host_context->stop_requested != 0 || host_context->fail_code != 0;
  }
  {
    Tenant tenant(host_context, setup->isolate(), setup->context(), loop, &stopper, exit_code,
                  [](rts_host_context_t* stalled) { Interrupt(stalled, 1); });
    v8::SealHandleScope seal(setup->isolate());
    while (!stop) {
      bool more = uv_run(loop, UV_RUN_NOWAIT) != 0;
      if (!more) {
        platform->DrainTasks(setup->isolate());
        more = uv_loop_alive(loop) != 0;
      }
      {
        LockGuard guard(&host_context->lock);
        // node::Stop ends the loop, too: at process.exit, or from another thread.
        stop = host_context->stop_requested != 0 || host_context->fail_code != 0 ||
               *exit_code >= 0 || !more;
      }
      if (!stop) tenant.Wait();
    }
  }
  {
    LockGuard guard(&host_context->lock);
    host_context->stopper = nullptr;
  }
  int open = 2;
  stopper.data = started.data = &open;
  const uv_close_cb closed = [](uv_handle_t* handle) { --*static_cast<int*>(handle->data); };
  uv_close(reinterpret_cast<uv_handle_t*>(&stopper), closed);
  uv_close(reinterpret_cast<uv_handle_t*>(&started), closed);
  while (open > 0) uv_run(loop, UV_RUN_NOWAIT);
}

void RunEnvironment(rts_host_context_t* host_context, Once* process) {
  if (!process->error.empty()) {
    host_context->report(host_context, RTS_STATE_FAILED, RTS_E_UNAVAILABLE, process->error.c_str());
    return;
  }
  std::vector<std::string> errors;
  auto flags =
      static_cast<node::EnvironmentFlags::Flags>(node::EnvironmentFlags::kTrackUnmanagedFds);
  std::unique_ptr<node::CommonEnvironmentSetup> setup = node::CommonEnvironmentSetup::Create(
      process->platform.get(), &errors, process->args, process->exec_args, flags);
  if (!setup) {
    std::string text = "Node made no environment";
    for (const std::string& error : errors) text += ": " + error;
    host_context->report(host_context, RTS_STATE_FAILED, RTS_E_UNAVAILABLE, text.c_str());
    return;
  }

  Isolate* isolate = setup->isolate();
  node::Environment* env = setup->env();
  std::string failure;
  int exit_code = -1;
  Interrupted interrupted = {host_context, isolate, env, "", false, 0};
  {
    Locker locker(isolate);
    Isolate::Scope isolate_scope(isolate);
    HandleScope handle_scope(isolate);
    Context::Scope context_scope(setup->context());

    node::SetProcessExitHandler(env, [&exit_code](node::Environment* ending, int code) {
      exit_code = code;
      node::Stop(ending);
    });
    node::AddLinkedBinding(env, kBinding);
    isolate->AddNearHeapLimitCallback(OnNearHeapLimit, host_context);
    if (host_context->max_external_mb > 0) {
      isolate->AddGCEpilogueCallback(OnCollected, &interrupted, v8::kGCTypeMarkSweepCompact);
    }
    bool stopped;
    {
      LockGuard guard(&host_context->lock);
      host_context->env = &interrupted;
      stopped = host_context->stop_requested != 0 || host_context->fail_code != 0;
    }
    if (!stopped) {
      TryCatch caught(isolate);
      MaybeLocal<Value> loaded = node::LoadEnvironment(
          env, [&](const node::StartExecutionCallbackInfo& info) -> MaybeLocal<Value> {
            return StartHost(host_context, isolate, setup->context(), info.process_object,
                             info.native_require);
          });
      if (loaded.IsEmpty()) {
        if (caught.HasCaught() && !caught.HasTerminated()) {
          failure = "the host did not start: " + Describe(isolate, setup->context(), caught);
        }
      } else {
        host_context->report(host_context, RTS_STATE_RUNNING, 0, nullptr);
        caught.Reset();
        RunLoop(host_context, setup.get(), process->platform.get(), &exit_code);
      }
    }
    int fail_code;
    {
      LockGuard guard(&host_context->lock);
      host_context->env = nullptr;
      stopped = host_context->stop_requested != 0;
      fail_code = host_context->fail_code;
    }
    node::Stop(env);
    if (fail_code != 0) {
      host_context->report(host_context, RTS_STATE_FAILED, fail_code,
                           interrupted.why.empty() ? nullptr : interrupted.why.c_str());
    } else if (stopped) {
      host_context->report(host_context, RTS_STATE_STOPPED, RTS_E_STOPPED, nullptr);
    } else {
      if (failure.empty()) {
        failure = exit_code >= 0
                      ? "the environment ended with exit code " + std::to_string(exit_code) +
                            " (process.exit or an uncaught exception)"
                      : "the environment ended";
      }
      host_context->report(host_context, RTS_STATE_FAILED, RTS_E_EXITED, failure.c_str());
    }
  }
  setup.reset();
}

void Run(rts_host_context_t* context) {
  Once* process;
  {
    LockGuard guard(&once_lock);
    rts_guard_install();
    rts_child_reaping_install(context->sigchld_blocked);
    process = InitializeOnce(context);
  }
  RunEnvironment(context, process);
}

void Interrupt(rts_host_context_t* context, int hard) {
  LockGuard guard(&context->lock);
  auto* interrupted = static_cast<Interrupted*>(context->env);
  if (hard && interrupted != nullptr) {
    if (context->fail_code == 0 || context->stop_requested != 0) {
      EndNow(context);
      return;
    }
    interrupted->isolate->RequestInterrupt(OnInterrupt, context);
  }
  if (context->stopper != nullptr) uv_async_send(static_cast<uv_async_t*>(context->stopper));
}

// V8's worker threads are joined here; V8's own state stays, as nothing will use it any more and
// its teardown would race with whatever a native package left running.
void Dispose() {
  if (once != nullptr) once->platform.reset();
}

const char* NodeVersion() { return NODE_VERSION; }

}  // namespace
}  // namespace rts

extern "C" __attribute__((visibility("default"))) const rts_backend_t rts_backend = {
    RTS_PROTOCOL, NODE_MODULE_VERSION, rts::NodeVersion, rts::Run, rts::Interrupt, rts::Dispose,
};
