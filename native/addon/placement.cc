/* See placement.h. */
#include "addon/placement.h"

#include <uv.h>

#include <algorithm>

namespace rts {
namespace {

// To be woken on another core costs that one as much as it costs the waker.
constexpr uint64_t kSides = 2;
// A time counts as this at most: the thread that was measured may not have had a core.
constexpr uint64_t kMostNs = 1000000;
// One nap in so many is left to the kernel, to see what a kick costs now.
constexpr uint32_t kLookAnew = 4096;

void Average(uint64_t* average, uint64_t ns) {
  *average += (std::min(ns, kMostNs) >> 3) - (*average >> 3);
}

}  // namespace

void Placement::BeginNap() {
  if (woken_ != 0) Average(&work_ns_, uv_hrtime() - woken_ - spun_ns_);
  uint32_t took_ns = 0;
  const int core = rts_host_kicked_from(channel_, &took_ns);
  const bool look_anew = ++naps_ % kLookAnew == 0;
  kept_ = core >= 0 && !look_anew && kSides * cross_ns_ > work_ns_ && Keep(core);
  beside_ = kept_ || (beside_ && look_anew);
}

bool Placement::Keep(int core) {
  cpu_set_t only;
  CPU_ZERO(&only);
  CPU_SET(static_cast<size_t>(core), &only);
  return sched_getaffinity(0, sizeof(allowed_), &allowed_) == 0 &&
         sched_setaffinity(0, sizeof(only), &only) == 0;
}

void Placement::EndNap() {
  uint32_t took_ns = 0;
  const int core = rts_host_kicked_from(channel_, &took_ns);
  spun_ns_ = 0;
  if (kept_) {
    kept_ = false;
    sched_setaffinity(0, sizeof(allowed_), &allowed_);
  } else if (core >= 0 && core != sched_getcpu()) {
    Average(&cross_ns_, took_ns);
  }
  woken_ = uv_hrtime();
}

}  // namespace rts
