/*
 * See stack.h.
 *
 * Threads: Tell runs on the environment's own, in the middle of JavaScript, where V8 allows no
 * JavaScript to be run; Ask on any. Invariant: V8 is not asked after the environment has ended.
 */
#include "addon/stack.h"

#include <dlfcn.h>

#include <cstdint>

namespace rts {
namespace {

// As V8 declares them: v8-isolate.h, v8-debug.h. Handles are returned in a register, like pointers.
struct Location {
  int line;
  int column;
};
using Interrupt = void (*)(void* isolate, void* data);
using GetCurrent = void* (*)();
using RequestInterrupt = void (*)(void* isolate, Interrupt callback, void* data);
using CurrentStackTrace = void* (*)(void* isolate, int frames, int options);
using GetFrameCount = int (*)(void* trace);
using GetFrame = void* (*)(void* trace, void* isolate, uint32_t index);
using GetLocation = Location (*)(void* frame);
using GetText = void* (*)(void* frame);

constexpr int kDetailed = 0x1ff;
constexpr int kFrames = 10;

template <typename Function>
Function Find(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_DEFAULT, name));
}

std::string JsonString(napi_env env, void* text) {
  size_t length = 0;
  auto* value = static_cast<napi_value>(text);
  if (napi_get_value_string_utf8(env, value, nullptr, 0, &length) != napi_ok) return "";
  std::string utf8(length + 1, '\0');
  napi_get_value_string_utf8(env, value, &utf8[0], utf8.size(), &length);
  std::string json = "\"";
  for (size_t i = 0; i < length; i++) {
    const char c = utf8[i];
    if (c == '"' || c == '\\') json += '\\';
    json += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return json + "\"";
}

std::string Describe(napi_env env, void* isolate) {
  const auto current = Find<CurrentStackTrace>(
      "_ZN2v810StackTrace17CurrentStackTraceEPNS_7IsolateEiNS0_17StackTraceOptionsE");
  const auto count = Find<GetFrameCount>("_ZNK2v810StackTrace13GetFrameCountEv");
  const auto get = Find<GetFrame>("_ZNK2v810StackTrace8GetFrameEPNS_7IsolateEj");
  const auto location = Find<GetLocation>("_ZNK2v810StackFrame11GetLocationEv");
  const struct {
    const char* name;
    GetText get;
  } texts[] = {
      {"function", Find<GetText>("_ZNK2v810StackFrame15GetFunctionNameEv")},
      {"script", Find<GetText>("_ZNK2v810StackFrame13GetScriptNameEv")},
      {"map", Find<GetText>("_ZNK2v810StackFrame25GetScriptSourceMappingURLEv")},
  };
  if (current == nullptr || count == nullptr || get == nullptr || location == nullptr) return "";
  void* trace = current(isolate, kFrames, kDetailed);
  if (trace == nullptr) return "";
  std::string json;
  const int frames = count(trace);
  for (int i = 0; i < frames; i++) {
    void* frame = get(trace, isolate, static_cast<uint32_t>(i));
    json += json.empty() ? "[{" : ",{";
    for (const auto& text : texts) {
      void* value = text.get == nullptr ? nullptr : text.get(frame);
      const std::string string = value == nullptr ? "" : JsonString(env, value);
      if (!string.empty()) json += std::string("\"") + text.name + "\":" + string + ",";
    }
    const Location at = location(frame);
    json += "\"line\":" + std::to_string(at.line + 1) +
            ",\"column\":" + std::to_string(at.column + 1) + "}";
  }
  return json.empty() ? json : json + "]";
}

}  // namespace

StackProbe::StackProbe(napi_env env, Told told, void* data)
    : env_(env), isolate_(nullptr), told_(told), data_(data) {
  const auto current = Find<GetCurrent>("_ZN2v87Isolate10GetCurrentEv");
  if (current != nullptr) isolate_ = current();
}

void StackProbe::Ask() {
  const std::lock_guard<std::mutex> guard(lock_);
  const auto request = Find<RequestInterrupt>("_ZN2v87Isolate16RequestInterruptEPFvPS0_PvES2_");
  if (env_ == nullptr || isolate_ == nullptr || request == nullptr) return;
  request(
      isolate_, [](void*, void* self) { static_cast<StackProbe*>(self)->Tell(); }, this);
}

void StackProbe::Tell() {
  napi_handle_scope scope = nullptr;
  if (env_ == nullptr || napi_open_handle_scope(env_, &scope) != napi_ok) return;
  const std::string json = Describe(env_, isolate_);
  napi_close_handle_scope(env_, scope);
  told_(data_, json);
}

void StackProbe::Close() {
  const std::lock_guard<std::mutex> guard(lock_);
  env_ = nullptr;
}

}  // namespace rts
