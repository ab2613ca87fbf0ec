/* See listener.h. */
#include "addon/listener.h"

#include <algorithm>

#include "channel/lease.h"

namespace rts {
namespace {

// How long one turn of the loop may spin before libuv looks at everything else.
constexpr uint64_t kSliceNs = 5000;
// With more calls pending than this there is other work for each core, and submissions are left to
// gather.
constexpr uint32_t kFewPending = 4;
// A gap between submissions of up to this many times spin_us is worth a try: when all are asleep it
// holds wake-ups that spinning saves.
constexpr uint64_t kWorthTrying = 4;
// So many tries: a spin that took longer than spin_us, or was in vain, costs one, another brings one.
// It takes the scheduler some ms to give each thread a core.
constexpr uint32_t kMostTries = 100;
// Then none for so many short sleeps.
constexpr uint32_t kRest = 400;
// Of one turn of the loop: what submissions lead to, in the handler and in the promises that it
// settles, is to take so long at most. Timers and sockets of all plugins wait for it.
constexpr uint64_t kTurnNs = 1000000;
constexpr uint32_t kMostInTurn = 1024;

void Relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

}  // namespace

Listener::Listener(uv_loop_t* loop, rts_channel_t* channel, uint32_t spin_us, Handler handler,
                   void* data)
    : channel_(channel),
      handler_(handler),
      data_(data),
      most_(kMostInTurn),
      // On one core the other side cannot move on while we spin.
      spin_ns_(rts_host_cores(channel) > 1 ? uint64_t{spin_us} * 1000 : 0),
      tries_(kMostTries) {
  poll_.data = this;
  idle_.data = this;
  uv_poll_init(loop, &poll_, rts_host_bell(channel));
  uv_idle_init(loop, &idle_);
  uv_poll_start(&poll_, UV_READABLE, [](uv_poll_t* handle, int, int) {
    static_cast<Listener*>(handle->data)->OnBell();
  });
  Awake();  // looks at once: calls may have been queued before we were here
}

void Listener::Awake() {
  uv_idle_start(&idle_, [](uv_idle_t* handle) { static_cast<Listener*>(handle->data)->OnIdle(); });
}

void Listener::Deliver() {
  const uint64_t start = uv_hrtime();
  const uint32_t handled = handler_(data_, most_);
  const uint32_t count = handled & 0xffff;
  if (count == 0) return;
  // Early in a turn of nginx's loop few are pending: the last turns count, too.
  pending_ = std::max(handled >> 16, pending_ - (pending_ + 7) / 8);
  last_work_ = uv_hrtime();
  rts_lease_note(channel_, start / 1000);
  AdaptMost(count, last_work_ - start);
}

void Listener::AdaptMost(uint32_t count, uint64_t took_ns) {
  if (took_ns > kTurnNs) {
    most_ = std::max<uint32_t>(1, static_cast<uint32_t>(count * kTurnNs / took_ns));
  } else if (count >= most_) {
    most_ = std::min(2 * most_, kMostInTurn);
  }
}

void Listener::OnBell() {
  rts_host_bell_drain(channel_);
  if (slept_at_ != 0) {
    is_dense_ = uv_hrtime() - slept_at_ < kWorthTrying * spin_ns_;
    if (is_dense_ && tries_ == 0 && ++rested_ >= kRest) {
      rested_ = 0;
      tries_ = kMostTries;
    }
    slept_at_ = 0;
  }
  Deliver();
  if (!uv_is_closing(reinterpret_cast<uv_handle_t*>(&idle_))) Awake();
}

void Listener::OnIdle() {
  if (rts_host_pending(channel_)) {
    Deliver();
    return;
  }
  const uint64_t now = uv_hrtime();
  const bool spins = is_dense_ && tries_ > 0 && pending_ <= kFewPending;
  const uint64_t give_up = last_work_ + kWorthTrying * spin_ns_;
  if (!spins || now >= give_up) {
    if (spins) --tries_;
    Sleep(now);
  } else if (Spin(std::min(give_up, now + kSliceNs))) {
    tries_ = uv_hrtime() < last_work_ + spin_ns_ ? std::min(tries_ + 1, kMostTries) : tries_ - 1;
    Deliver();
  }
}

// True as soon as there is a submission.
bool Listener::Spin(uint64_t until) {
  const bool is_wanted = rts_lease_is_wanted(channel_) != 0;
  if (is_wanted) rts_lease_wait(channel_, 0);
  bool found = false;
  do {
    for (int i = 0; i < 16 && !found; i++) {
      Relax();
      found = rts_lease_pending(channel_) != 0;
    }
  } while (!found && uv_hrtime() < until);
  if (is_wanted) rts_lease_resume(channel_);
  return found;
}

void Listener::Sleep(uint64_t now) {
  if (!rts_host_arm(channel_)) return;  // something came: the next turn delivers it
  slept_at_ = now;
  uv_idle_stop(&idle_);
}

void Listener::Close(Callback done, void* done_data) {
  done_ = done;
  done_data_ = done_data;
  const uv_close_cb closed = [](uv_handle_t* handle) {
    static_cast<Listener*>(handle->data)->OnClosed();
  };
  uv_close(reinterpret_cast<uv_handle_t*>(&poll_), closed);
  uv_close(reinterpret_cast<uv_handle_t*>(&idle_), closed);
}

void Listener::OnClosed() {
  if (--open_handles_ > 0) return;
  const Callback done = done_;
  void* done_data = done_data_;
  delete this;
  if (done != nullptr) done(done_data);
}

}  // namespace rts
