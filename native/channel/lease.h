/*
 * Who runs the environment of a channel: its own thread, or, while that one waits for something to do,
 * the Lua thread, for one call that it would else block for until the other has woken.
 *
 * Threads: wait, poll, resume: the environment's; the Lua thread's part is in resty_ts.h.
 * Invariant: at any time one of the two holds the lease, and only the holder touches the isolate and
 * libuv's loop. The state goes from one to the other by a compare-and-swap or a store with release,
 * and is read with acquire: each holder sees all that the one before it has done.
 */
#ifndef RTS_LEASE_H
#define RTS_LEASE_H

#include "channel/channel.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What an environment must do that can be run by either thread; given to rts_lease_share. */
typedef struct {
    void *data;
    /* Its own thread is about to wait: for due_ms; 0: for less than that; -1: until something comes. */
    void (*unlock)(void *data, int due_ms);
    void (*lock)(void *data);
    /* On the Lua thread: handles the submissions that are there (rts_lease_deliver), and wakes the
     * other thread if that has a reason to wait no longer. */
    void (*run)(void *data);
    /* On its own thread: that run is past its deadline; `stalled`: the environment is to end.
     * Called again each millisecond. */
    void (*late)(void *data, int stalled);
} rts_tenant_t;

/* From now on the Lua thread may run the environment; NULL: no more. Threads: the environment's,
 * which does not wait. `tenant` must live until then. */
void rts_lease_share(rts_channel_t *channel, const rts_tenant_t *tenant);

/* The environment's thread waits between these two, for due_ms as `unlock` has it. */
void rts_lease_wait(rts_channel_t *channel, int due_ms);
void rts_lease_resume(rts_channel_t *channel);

/* Whether the Lua thread has asked for it of late: else it need not be offered where the wait is short. */
int rts_lease_is_wanted(const rts_channel_t *channel);

/* Between these: until fd is readable, at most timeout_ms (-1: no limit). */
void rts_lease_poll(rts_channel_t *channel, int fd, int timeout_ms);

/* Between these: whether there are submissions that are not the Lua thread's to handle. */
int rts_lease_pending(const rts_channel_t *channel);

/* What handles submissions: the addon's. NULL: nothing does. Threads: the holder's. */
typedef uint32_t (*rts_deliver_t)(void *data, uint32_t most);
void rts_lease_set_deliver(rts_channel_t *channel, rts_deliver_t deliver, void *data);
void rts_lease_deliver(rts_channel_t *channel);

/* Of a run that is past its deadline, on the Lua thread: whether it is the call that the lease was
 * claimed for that has begun last, and not one of those before it. */
int rts_lease_is_callers(const rts_channel_t *channel);

/* The call has been ended: it is not answered. */
void rts_lease_terminate(rts_channel_t *channel);
int rts_lease_terminated(const rts_channel_t *channel);

/* Submissions have been handled since then. Where that took long the Lua thread handles nobody else's
 * for a while. */
void rts_lease_note(rts_channel_t *channel, uint64_t start_us);

#ifdef __cplusplus
}
#endif

#endif
