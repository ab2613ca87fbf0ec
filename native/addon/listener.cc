/* See listener.h. */
#include "addon/listener.h"

#include <poll.h>

#include <algorithm>

#include "channel/lease.h"

namespace rts {
namespace {

// How long one turn of the loop may spin before libuv looks at everything else.
constexpr uint64_t kSliceNs = 5000;
// Below this a spin cannot save a wake-up, which costs more.
constexpr uint64_t kLeastSpinNs = 2000;
// Gaps up to this many times spin_us are worth a try: when all are asleep a gap holds wake-ups that
// spinning saves, and may come to be shorter than spin_us by it.
constexpr uint64_t kWorthTrying = 4;
// So many tries: a spin that took longer than spin_us, or was in vain, costs one, another brings one.
// It takes the scheduler some ms to give each thread a core.
constexpr uint32_t kMostTries = 100;
// Then none for so many wake-ups.
constexpr uint32_t kRest = 400;
// With more calls pending than this, and gaps shorter than that, submissions are left to gather.
constexpr uint32_t kFewPending = 4;
constexpr uint64_t kBusyGapNs = 300000;
// A nap's end when no kick comes: of a long turn of nginx's loop, say. Not before the kernel's next
// tick (4 ms), or each nap sets the clock's timer anew, which in a virtual machine costs more than
// the nap.
constexpr int kNapMs = 10;
// In place of a count: the worker blocks until it has the answer.
constexpr uint32_t kBlocking = 0xffff;
// After so long without any, naps give way to sleep.
constexpr uint64_t kNapBudgetNs = 1000000;
// Of one turn of the loop: what submissions lead to, in the handler and in the promises that it
// settles, is to take so long at most. Timers and sockets of all plugins wait for it.
constexpr uint64_t kTurnNs = 1000000;
constexpr uint32_t kMostInTurn = 1024;
// A gap counts as this at most: one pause does not hide that traffic is dense.
constexpr uint64_t kMostGapNs = 1000000;

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
    : loop_(loop),
      channel_(channel),
      placement_(channel),
      handler_(handler),
      data_(data),
      most_(kMostInTurn),
      // On one core the other side cannot move on while we spin.
      spin_ns_(rts_host_cores(channel) > 1 ? uint64_t{spin_us} * 1000 : 0),
      budget_ns_(spin_ns_),
      gap_ns_(kMostGapNs),
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
  if (count > 0) {
    const uint32_t pending = handled >> 16;
    if (pending == kBlocking) {
      last_blocked_ = start;
    } else {
      // Early in a turn of nginx's loop few are: the last turns count, too.
      pending_ = std::max(pending, pending_ - (pending_ + 7) / 8);
    }
    const uint64_t gap = std::min((start - last_start_) / count, kMostGapNs);
    gap_ns_ += (gap >> 3) - (gap_ns_ >> 3);
    last_start_ = start;
    last_work_ = uv_hrtime();
    rts_lease_note(channel_, start / 1000);
    AdaptMost(count, last_work_ - start);
  }
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
  const uint64_t now = uv_hrtime();
  if (slept_at_ != 0) {
    AdaptBudget(now - slept_at_);
    slept_at_ = 0;
  }
  Deliver();
  if (!uv_is_closing(reinterpret_cast<uv_handle_t*>(&idle_))) Awake();
}

// After a sleep.
void Listener::AdaptBudget(uint64_t slept_ns) {
  const uint64_t longest = kWorthTrying * spin_ns_;
  if (slept_ns >= longest) {
    budget_ns_ = budget_ns_ / 2 < kLeastSpinNs ? 0 : budget_ns_ / 2;
  } else if (tries_ > 0) {
    budget_ns_ = longest;
  } else if (++rested_ >= kRest) {
    rested_ = 0;
    tries_ = kMostTries;
    budget_ns_ = longest;
  }
}

void Listener::CountSpin(bool was_short) {
  if (was_short) {
    tries_ = std::min(tries_ + 1, kMostTries);
  } else if (tries_ > 0 && --tries_ == 0) {
    budget_ns_ = 0;
  }
}

void Listener::OnIdle() {
  if (rts_host_pending(channel_)) {
    Deliver();
    return;
  }
  const uint64_t now = uv_hrtime();
  const bool dense = gap_ns_ < kBusyGapNs && spin_ns_ > 0;
  // The worker may block for an answer again, and a sleeping thread takes long to wake.
  const bool await_blocked =
      dense && now < last_blocked_ + kWorthTrying * spin_ns_ && now < last_work_ + spin_ns_;
  const bool many = pending_ > kFewPending || placement_.beside_worker();
  const bool gather = dense && many && !await_blocked;
  const uint64_t patience = await_blocked ? spin_ns_ : gather ? kNapBudgetNs : budget_ns_;
  const uint64_t give_up = last_work_ + patience;
  if (now >= give_up) {
    Sleep(now);
  } else if (gather) {
    Nap();
  } else {
    const bool found = Spin(std::min(give_up, now + kSliceNs));
    const uint64_t end = uv_hrtime();
    placement_.Spun(end - now);
    if (found) {
      CountSpin(end < last_work_ + spin_ns_);
      Deliver();
    }
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

// Ends when Lua kicks us, or libuv has something else to do.
void Listener::Nap() {
  // When that is: our own handle says at once.
  uv_idle_stop(&idle_);
  const int due_ms = uv_backend_timeout(loop_);
  Awake();
  if (due_ms == 0 || !rts_host_arm(channel_, RTS_WAKE_KICK)) return;
  const int nap_ms = due_ms < 0 ? kNapMs : std::min(due_ms, kNapMs);
  struct pollfd loop = {uv_backend_fd(loop_), POLLIN, 0};
  placement_.BeginNap();
  const bool is_wanted = rts_lease_is_wanted(channel_) != 0;
  if (is_wanted) rts_lease_wait(channel_, nap_ms);
  poll(&loop, 1, nap_ms);
  if (is_wanted) rts_lease_resume(channel_);
  placement_.EndNap();
  rts_host_disarm(channel_);
}

void Listener::Sleep(uint64_t now) {
  if (!rts_host_arm(channel_, RTS_WAKE_BELL)) return;  // something came: the next turn delivers it
  slept_at_ = now;
  placement_.Sleep();
  if (budget_ns_ > 0) CountSpin(false);
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
