/*
 * lua-resty-ts: the public C interface of libresty_ts.so, and the only header that others include.
 *
 * The part between the ffi marks is plain C that LuaJIT's ffi.cdef takes as it is;
 * lua/resty/ts/cdef.lua is generated from it.
 *
 * A channel joins two sides. "Lua" is the thread that called rts_channel_create (an nginx
 * worker's main thread): it alone writes submissions and reads completions. "Host" is the
 * thread that runs Node: it alone reads submissions and writes completions. Every function
 * says on which side it may be called. Functions return 0 or a negated RTS_E_* code unless
 * they say otherwise; none aborts, exits or prints. Those that end in (errbuf, errlen) write
 * a text without a final NUL and set *errlen to its length; *errlen is the room on entry.
 */
#ifndef RESTY_TS_H
#define RESTY_TS_H

#include <stddef.h>
#include <stdint.h>

#include "rts_errors.h"

#define RTS_VERSION "0.1.0"

/* Raised whenever the layout of the mapping, the records or the backend table changes. */
#define RTS_PROTOCOL 7

enum {
    RTS_OK = 0,
#define RTS_X(name, number, code, text, cure) RTS_E_##name = (number),
    RTS_ERROR_MAP(RTS_X)
#undef RTS_X
};

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)
/* ffi:begin */

typedef struct rts_channel rts_channel_t;
typedef struct rts_runtime rts_runtime_t;

/* Where the rings are in this process. Both are mapped twice in a row: a record that begins
 * below ring + bytes may be read and written past it without wrapping. */
typedef struct {
    uint8_t *sq;
    uint8_t *cq;
    uint32_t sq_bytes;
    uint32_t cq_bytes;
    uint32_t sq_tail;
    uint32_t cq_head;
} rts_view_t;

/* One record. The payload follows it; the next record begins at the next multiple of 8. */
typedef struct {
    uint32_t length;
    uint8_t kind;
    uint8_t flags;
    uint16_t pending;
    uint32_t id;
    uint32_t a;
    uint32_t b;
    uint32_t total;
} rts_record_t;

/* As nginx's Lua module has a text and a field (ngx_http_lua_ffi_table_elt_t). */
typedef struct {
    int32_t bytes;
    const uint8_t *data;
} rts_text_t;

typedef struct {
    rts_text_t name;
    rts_text_t value;
} rts_field_t;

/* As nginx has a text, the beginning of a field, and a list of them (ngx_str_t, ngx_table_elt_t,
 * ngx_list_t). A response's field whose hash is 0 is not sent. */
typedef struct {
    size_t bytes;
    uint8_t *data;
} rts_nginx_text_t;

typedef struct {
    uintptr_t hash;
    rts_nginx_text_t name;
    rts_nginx_text_t value;
} rts_nginx_field_t;

typedef struct rts_nginx_part {
    uint8_t *first;
    uintptr_t n;
    struct rts_nginx_part *next;
} rts_nginx_part_t;

typedef struct {
    rts_nginx_part_t *last;
    rts_nginx_part_t part;
    size_t field_bytes;
    uintptr_t room;
    void *pool;
} rts_nginx_list_t;

typedef struct {
    const char *library_dir;
    const char *libnode; /* embedded: NULL looks for one */
    const char *host; /* the host's file */
    const char *node; /* process: NULL is "node" on the PATH */
    const char *environment; /* process: names of variables to pass on, separated by spaces */
    const char *connect; /* process: the socket of a host that was started by hand, or NULL */
    const uint8_t *settings; /* for the host: one MessagePack value */
    uint32_t settings_bytes;
    uint32_t runtime; /* 0 embedded, 1 process, 2 embedded where a libnode is found, else process */
    uint32_t shared; /* process: one for all workers */
    uint32_t max_heap_mb; /* 0: as Node has it */
    uint32_t max_external_mb; /* of Buffers and the like; 0: no limit */
    uint32_t tune_malloc; /* embedded: whether to fix glibc's thresholds, for the whole process */
    uint32_t kill_ms; /* process: from SIGTERM to SIGKILL */
} rts_runtime_options_t;

/* state: 0 starting, 1 running, 2 stopped by request, 3 failed or ended by itself. */
typedef struct {
    int32_t state;
    int32_t error;
    int32_t abi;
    int32_t thread_id; /* of the Node thread, or of the one that watches the process */
    int32_t process; /* 1: Node is a process of its own */
    int32_t process_id; /* 0: none */
    char node_version[32];
    char libnode[256];
    char backend[256];
    char text[1024];
} rts_runtime_status_t;

/* The library's version, a static string.
 * Threads: any. */
const char *rts_version(void);

/* Microseconds of a monotonic clock.
 * Threads: any. */
uint64_t rts_now_us(void);

/* Creates a channel: one sealed memfd with both rings, and the host's doorbell.
 * ring_bytes is the size of each ring, a power of two from the machine's page (4,096 on most) to
 * 2^30; cursors start at first_cursor (a multiple of 8, 0 but in tests).
 * Threads: the caller becomes the Lua side.
 * Owns: the caller, until rts_channel_destroy.
 * Returns: 0, RTS_E_BAD_OPTION, RTS_E_SYSTEM. */
int rts_channel_create(uint32_t ring_bytes, uint32_t first_cursor, rts_channel_t **out,
                       char *errbuf, size_t *errlen);

/* Unmaps the channel and closes its descriptors. No other thread may use it any more.
 * Threads: Lua. */
void rts_channel_destroy(rts_channel_t *channel);

/* Fills *out.
 * Threads: Lua.
 * Owns: the pointers live as long as the channel. */
void rts_channel_view(const rts_channel_t *channel, rts_view_t *out);

/* How far the host has read submissions (acquire: room before it may be written again).
 * Threads: Lua. */
uint32_t rts_sq_head(const rts_channel_t *channel);

/* How far the host has come: it has not begun to handle any record from here on.
 * Threads: Lua. */
uint32_t rts_sq_begun(const rts_channel_t *channel);

/* Makes all records below tail visible to the host.
 * Threads: Lua.
 * Returns: 0; 1 when the host sleeps, and is to be woken by rts_sq_kick.
 * Progress: wait-free. */
int rts_sq_publish(rts_channel_t *channel, uint32_t tail);

/* Wakes the host if it sleeps and has not read all. To be called when nothing more is about to be published.
 * Threads: Lua.
 * Returns: 0 or RTS_E_SYSTEM. */
int rts_sq_kick(rts_channel_t *channel);

/* Asks for Lua's doorbell to be rung when the host has read on from `head`.
 * Threads: Lua.
 * Returns: 1 armed; 0 when it has read on already. */
int rts_sq_want_room(rts_channel_t *channel, uint32_t head);

/* Blocks until the host has read on from `head`.
 * Threads: Lua.
 * Returns: 1, or 0 after timeout_us. */
int rts_sq_wait_room(rts_channel_t *channel, uint32_t head, uint32_t timeout_us);

/* How far the host has written completions (acquire: records below it may be read).
 * Threads: Lua. */
uint32_t rts_cq_tail(const rts_channel_t *channel);

/* Gives the room of all records below head back to the host, and wakes it if it waits for room.
 * Threads: Lua.
 * Returns: 0, or RTS_E_SYSTEM. */
int rts_cq_release(rts_channel_t *channel, uint32_t head);

/* Asks for Lua's doorbell to be rung at the next completion.
 * Threads: Lua.
 * Returns: 1 armed; 0 when there is something past `head` already. */
int rts_cq_arm(rts_channel_t *channel, uint32_t head);

/* Takes rts_cq_arm back.
 * Threads: Lua.
 * Returns: 1 when the doorbell was not rung and will not be; 0 when it was or is about to be. */
int rts_cq_disarm(rts_channel_t *channel);

/* Blocks until there is a completion past `head`: spins for spin_us, not on one core, then sleeps.
 * Threads: Lua.
 * Returns: 1, or 0 after timeout_us. */
int rts_cq_wait(rts_channel_t *channel, uint32_t head, uint32_t spin_us, uint32_t timeout_us);

/* Spins until there is a completion past `head`, spin_us at most; 0 at once on one core.
 * Threads: Lua.
 * Returns: 1 or 0.
 * Progress: no system call. */
int rts_cq_spin(const rts_channel_t *channel, uint32_t head, uint32_t spin_us);

/* Takes the environment for one call that is then published, and that rts_lease_run handles on this
 * thread: where it is embedded, and its own thread waits for something to do. Who claims must run or
 * release. When it takes longer than timeout_us its handler is ended; and, whatever else is handled
 * before it, after stall_us the environment.
 * Threads: Lua.
 * Returns: 1; 0 when the call is to be made as any other.
 * Progress: wait-free; a system call when the environment's thread has slept for long. */
int rts_lease_claim(rts_channel_t *channel, uint32_t timeout_us, uint32_t stall_us);

/* Gives back what was claimed. Threads: Lua. */
void rts_lease_release(rts_channel_t *channel);

/* Handles what is published, gives the environment back. What was answered is in the ring; a call
 * whose handler waits for something is answered later.
 * Threads: Lua.
 * Returns: 0; 1 when the last call's handler was ended: it is not answered. */
int rts_lease_run(rts_channel_t *channel);

/* Lua's doorbell as a descriptor that becomes readable, for event loops other than nginx's: whoever
 * polls it reads what is there. The doorbell before it is closed, so it must be disarmed.
 * Threads: Lua.
 * Owns: the channel.
 * Returns: the descriptor, or a negated RTS_E_SYSTEM. */
int rts_bell_pair(rts_channel_t *channel, char *errbuf, size_t *errlen);

/* Lua's doorbell as a unix socket that nginx can connect a cosocket to: listens in a new private
 * directory below `dir` (NULL: /tmp) and writes its path to path, *pathlen room on entry.
 * Threads: Lua.
 * Returns: 0 or RTS_E_SYSTEM. */
int rts_bell_listen(rts_channel_t *channel, const char *dir, char *path, size_t *pathlen,
                    char *errbuf, size_t *errlen);

/* Accepts the connection made to the socket, which becomes the doorbell, and removes socket and
 * directory. The doorbell before it is closed, so it must be disarmed.
 * Threads: Lua.
 * Returns: 0 or RTS_E_SYSTEM (nobody connected, or somebody else did). */
int rts_bell_accept(rts_channel_t *channel, char *errbuf, size_t *errlen);

/* Makes Lua's doorbell of one channel that of another, which has none. It must be disarmed.
 * Threads: Lua. */
void rts_bell_move(rts_channel_t *from, rts_channel_t *to);

/* Closes the listening socket, if any, and removes it from the file system. The doorbell itself
 * stays.
 * Threads: Lua. */
void rts_bell_unlisten(rts_channel_t *channel);

/* Rings Lua's doorbell, whether armed or not.
 * Threads: any. */
void rts_bell_ring(rts_channel_t *channel);

/* Whether n bytes are well-formed UTF-8 (Unicode 15, table 3-7: no surrogates, no overlong form).
 * Threads: any.
 * Returns: 1 or 0. */
int rts_utf8_valid(const char *s, size_t n);

/* Functions of nginx's Lua module, as lua-resty-core declares them. */
typedef struct {
    int (*var_get)(void *request, const char *name, size_t bytes, uint8_t *lowercase, int capture,
                   uint8_t **value, size_t *value_bytes, char **err);
    int (*method)(void *request, uint8_t **name, size_t *bytes);
    int (*fields_count)(void *request, int max, int *truncated);
    int (*fields)(void *request, rts_field_t *out, int count, int raw);
    int (*response_field)(void *request, const uint8_t *name, size_t bytes, uint8_t *name_buffer,
                          rts_text_t *values, int most, char **err);
} rts_nginx_lua_t;

/* What a head (docs/http-protocol.md) is made of. A text whose data are NULL is nginx's own. */
typedef struct {
    rts_nginx_lua_t nginx;
    void *request; /* NULL: the head says nothing of it */
    const rts_nginx_list_t *response;
    rts_text_t target;
    rts_text_t uri;
    rts_text_t args; /* of a uri that is given; NULL: it has none */
    rts_text_t original; /* NULL: there is none */
    uint32_t token;
    uint32_t id;
    uint16_t status;
    uint8_t phase;
    uint8_t version;
    uint8_t flags;
    uint8_t is_known; /* whether the response is: before that Lua alone has set fields of it */
} rts_head_t;

/* More fields than a head can count, and no memory; less than any head has bytes. */
enum { RTS_HEAD_REQUEST_FIELDS = 1, RTS_HEAD_RESPONSE_FIELDS = 2, RTS_HEAD_NO_MEMORY = 3 };

/* Puts a head into the buffer, whose alignment is that of 32 bits.
 * Threads: Lua, in a phase of the request.
 * Returns: its bytes; when these are more than size, it is not whole; or one of the constants above. */
uint32_t rts_head_put(const rts_head_t *head, uint8_t *buffer, uint32_t size);

/* Looks for a list of fields in nginx's request, an ngx_http_request_t: the layout depends on how
 * nginx was built, and its lists look like nothing else. The first is the request's, the next the
 * response's.
 * Threads: Lua.
 * Returns: the list's offset in bytes, `from` or more; 0 when there is none in the first 1,024. */
uint32_t rts_find_list(const void *request, uint32_t from);

/* The list's first field of this name, in any case, behind `after`; NULL after: from the beginning.
 * all: not 0 takes those whose hash is 0, too.
 * Threads: Lua.
 * Returns: NULL when there is none. */
rts_nginx_field_t *rts_next_listed(const rts_nginx_list_t *list, const char *name, size_t bytes,
                                   const rts_nginx_field_t *after, int all);

/* Has nginx send none of the response's fields of this name but for the first `keep` of them.
 * Threads: Lua.
 * Returns: how many there are then. */
uint32_t rts_drop_listed(const rts_nginx_list_t *list, const char *name, size_t bytes,
                         uint32_t keep);

/* The handler of an ngx_http_cleanup_t: notes that the request has ended whose number is in `id`
 * (the pointer itself; nothing is read through it).
 * Threads: Lua. */
void rts_request_note_end(void *id);

/* Takes the numbers that rts_request_note_end has noted, max at most.
 * Threads: Lua.
 * Returns: how many were written to ids. */
uint32_t rts_requests_ended(uint32_t *ids, uint32_t max);

/* Starts Node, in a thread of this process (finds libnode and the backend for it) or as a child
 * process, and loads the host.
 * Returns at once; how it goes is in rts_runtime_status, and the doorbell rings at each change.
 * Threads: Lua.
 * Owns: the caller, until rts_runtime_reap or rts_runtime_leave; the strings of options are copied. The channel
 * must outlive the runtime.
 * Returns: 0, RTS_E_BAD_OPTION, RTS_E_NO_HOST, RTS_E_SYSTEM. */
int rts_runtime_start(rts_channel_t *channel, const rts_runtime_options_t *options,
                      rts_runtime_t **out, char *errbuf, size_t *errlen);

/* The state alone, as in rts_runtime_status_t.
 * Threads: any.
 * Progress: wait-free. */
int rts_runtime_state(const rts_runtime_t *runtime);

/* Fills *out.
 * Threads: any. */
void rts_runtime_status(rts_runtime_t *runtime, rts_runtime_status_t *out);

/* Ends JavaScript wherever it is and waits for the thread.
 * Threads: Lua.
 * Returns: 0, or RTS_E_TIMEOUT when it has not ended within timeout_ms (it goes on ending). */
int rts_runtime_stop(rts_runtime_t *runtime, uint32_t timeout_ms);

/* Ends the environment wherever it is, because of `code` (RTS_E_STALLED, RTS_E_PROTOCOL, …): the
 * state becomes 3, failed, with that error. Returns at once.
 * Threads: Lua. */
void rts_runtime_fail(rts_runtime_t *runtime, int code);

/* The JavaScript stack at which rts_runtime_fail found the environment, as JSON: an array of frames
 * { function, script, line, column, map? }; empty when it is not known.
 * Threads: Lua, once the state is 3.
 * Returns: its length; at most size bytes of it are written to text. */
size_t rts_runtime_stack(rts_runtime_t *runtime, char *text, size_t size);

/* Frees *runtime and its channel when its thread has ended, and sets *runtime to NULL.
 * Threads: Lua.
 * Returns: 1 when it is freed (or was), 0 when it has not ended yet. */
int rts_runtime_reap(rts_runtime_t **runtime);

/* Whether its thread has ended.
 * Threads: Lua. */
int rts_runtime_ended(rts_runtime_t *runtime);

/* At the process's end: asks all runtimes to end, waits for this one, until 0.8 s after it was first
 * asked to, frees it, destroys its channel, and sets *runtime to NULL. What a thread that did not end
 * still uses is left alone, and the process leaves by _exit. NULL is allowed.
 * Threads: Lua. */
void rts_runtime_leave(rts_runtime_t **runtime);

/* ffi:end */
#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
