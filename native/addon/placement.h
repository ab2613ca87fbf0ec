/*
 * Where the environment's thread wakes from a nap: on the worker's core, where that costs the worker
 * less. To wake a thread on another core takes the waker 1 us on some machines and 40 us on others
 * (virtual ones, where the hypervisor must do it); to have it beside oneself costs all that it does.
 * Both are measured. See docs/adr/0004-waiting.md.
 *
 * Threads: the environment's own. Invariant: only while it naps is the thread kept to a core. What
 * it runs may be moved, and threads and processes that are started from there may go anywhere.
 */
#ifndef RTS_PLACEMENT_H
#define RTS_PLACEMENT_H

#include <sched.h>

#include <cstdint>

#include "channel/channel.h"

namespace rts {

class Placement {
 public:
  // The channel must outlive it.
  explicit Placement(const rts_channel_t* channel) : channel_(channel) {}

  // Just before the thread blocks, and as soon as it runs again.
  void BeginNap();
  void EndNap();
  // It has spun for so long, which is no work.
  void Spun(uint64_t ns) { spun_ns_ += ns; }
  // It goes to sleep in another way.
  void Sleep() {
    woken_ = 0;
    beside_ = false;
  }
  // Whether it shares the worker's core for as long as this goes on.
  bool beside_worker() const { return beside_; }

 private:
  bool Keep(int core);

  const rts_channel_t* channel_;
  cpu_set_t allowed_;     // where the thread may run otherwise
  bool kept_ = false;     // whether it is kept to a core now
  bool beside_ = false;   // whether it was, in the last nap
  uint64_t woken_ = 0;    // uv_hrtime of the last nap's end, 0 after a sleep
  uint64_t spun_ns_ = 0;  // since then
  uint32_t naps_ = 0;
  uint64_t work_ns_ = 0;   // from one nap to the next; a moving average
  uint64_t cross_ns_ = 0;  // that a kick from another core takes; a moving average
};

}  // namespace rts

#endif
