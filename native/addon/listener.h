/*
 * Waiting for submissions in libuv's loop: spins while few calls are pending and that pays, else
 * sleeps until Lua kicks it. See docs/adr/0004-waiting.md for what was measured.
 *
 * Threads: the environment's own. Invariant: while the loop may block, either the sleeping flag
 * is set or the idle handle is active (so that it does not block).
 */
#ifndef RTS_LISTENER_H
#define RTS_LISTENER_H

#include <uv.h>

#include <cstdint>

#include "channel/channel.h"

namespace rts {

class Listener {
 public:
  using Callback = void (*)(void* data);
  // Handles submissions that are there, `most` of them. Returns how many, and in the high 16 bits how
  // many calls are pending on the other side.
  using Handler = uint32_t (*)(void* data, uint32_t most);

  // Starts at once. The channel must outlive the listener.
  Listener(uv_loop_t* loop, rts_channel_t* channel, uint32_t spin_us, Handler handler, void* data);

  // Closes the handles and then deletes the listener and calls done(done_data).
  void Close(Callback done, void* done_data);

 private:
  ~Listener() = default;
  void OnBell();
  void OnIdle();
  void Deliver();
  void AdaptMost(uint32_t count, uint64_t took_ns);
  bool Spin(uint64_t until);
  void Awake();
  void Sleep(uint64_t now);
  void OnClosed();

  uv_poll_t poll_;
  uv_idle_t idle_;
  rts_channel_t* channel_;
  Handler handler_;
  void* data_;
  Callback done_ = nullptr;
  void* done_data_ = nullptr;
  int open_handles_ = 2;
  uint32_t most_;           // submissions in one turn of the loop
  uint64_t spin_ns_;        // the configured limit
  uint64_t last_work_ = 0;  // uv_hrtime when the last delivery ended
  uint64_t slept_at_ = 0;   // and when we went to sleep; 0: since then awake
  uint32_t pending_ = 0;    // calls that wait for an answer; a decaying maximum
  bool is_dense_ = false;   // whether the last sleep was short
  uint32_t tries_;          // how many spins may be longer than spin_ns_, or in vain
  uint32_t rested_ = 0;     // short sleeps since there were none left
};

}  // namespace rts

#endif
