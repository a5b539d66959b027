/* The calls of a distributed lock with appended files. Part of Baton; see docs/C_API.md.
   Generated from the Rust sources: change those, then `make fix`. */

#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE 1
#endif

#ifndef BATON_RPC_H
#define BATON_RPC_H

#include <stddef.h>
#include <stdint.h>
#include "udp.h"

/* Room for a message, in bytes; a program may define its own before it includes this file. */
#ifndef BUFFER_SIZE
#define BUFFER_SIZE 1024
#endif

/**
 * How an operation ended. The numbers never change and are never used again for something else.
 */
enum rpc_status {
  /**
   * Done.
   */
  RPC_OK = 0,
  /**
   * Not done: no data file has that name.
   */
  RPC_FILE_NOT_FOUND = 1,
  /**
   * Not done: this connection does not hold the lock.
   */
  RPC_NOT_HOLDER = 2,
  /**
   * Not done: this connection held the lock, but its lease ran out while another waited, and
   * its section was discarded.
   */
  RPC_LEASE_EXPIRED = 3,
  /**
   * Not done: the lock was not free in the time given.
   */
  RPC_WOULD_BLOCK = 4,
  /**
   * Outcome unknown: no answer in time; the request may have taken effect or may still do so.
   */
  RPC_TIMED_OUT = 5,
  /**
   * Not done: no server could be reached, or the servers that can be are too few to decide.
   */
  RPC_UNAVAILABLE = 6,
  /**
   * The server no longer knows this session: its unpublished section is gone; the outcome of
   * a release or close that was under way is unknown.
   */
  RPC_SESSION_LOST = 7,
  /**
   * Not done: the section would grow past the server's limit.
   */
  RPC_TOO_LARGE = 8,
  /**
   * Not done: an argument is null, malformed or out of range.
   */
  RPC_INVALID_ARGUMENT = 9,
  /**
   * Not done: the connection was never opened, is closed, or belongs to another process.
   */
  RPC_NOT_OPEN = 10,
  /**
   * Not done: a system call failed in the client; `errno` says why.
   */
  RPC_SYSTEM_ERROR = 11,
  /**
   * Not done: the server declines; the last message says why (no disk space, a limit).
   */
  RPC_REFUSED = 12,
  /**
   * Outcome unknown: a defect in the library or the server. Please report it.
   */
  RPC_INTERNAL = 13,
};

/**
 * A connection. The program provides the 40 bytes; `RPC_init` fills them, no other call needs
 * them to stay where they are. The library keeps everything else itself and finds it by `sd` and
 * `client_id`: a copy of the struct is the same connection, and a struct that was never filled,
 * is closed, or comes from another process is refused with `RPC_NOT_OPEN`. Do not change the
 * fields, and do not close `sd` yourself.
 */
struct rpc_conn {
  /**
   * UDP socket, -1 when closed.
   */
  int sd;
  /**
   * The server in use.
   */
  struct sockaddr_in send_addr;
  /**
   * Where the last reply came from.
   */
  struct sockaddr_in recv_addr;
  /**
   * Given by the server, > 0.
   */
  int client_id;
};

/**
 * What programs call it.
 */
typedef struct rpc_conn rpc_conn_t;

/**
 * Another name for it.
 */
typedef rpc_conn_t rpc_connection;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Opens a connection: binds a UDP socket, registers a session with the server and waits for its
 * "Connected!".
 *
 * Parameters:
 * - `rpc` (out, not null): filled when the call succeeds. What it held before does not matter: a
 *   connection that it named stays open and can be reached through a copy only. When the call
 *   fails, `sd` is -1 and `client_id` 0, so that the struct is refused until it is opened.
 * - `src_port`: local UDP port, 0 to 65535; 0 lets the system choose.
 * - `dst_port`: the server's port, 1 to 65535.
 * - `dst_addr` (in, not null, NUL-terminated, at most 4096 bytes): a host name or IPv4 address,
 *   or several separated by commas, each optionally `host:port`.
 *
 * Blocks: until the server answers, at most `BATON_TIMEOUT_MS` (environment, in milliseconds;
 * default 30000), and as long as the resolver takes for a host name.
 *
 * Returns, in order of precedence:
 * - `RPC_INVALID_ARGUMENT`: null pointer, port out of range, host that cannot be resolved. Not
 *   done.
 * - `RPC_SYSTEM_ERROR`: no socket, or `src_port` is taken; `errno` says which. Not done.
 * - `RPC_UNAVAILABLE`: no server answered. Not done.
 * - `RPC_REFUSED`: the server takes no more sessions. Not done.
 * - `RPC_OK`: done.
 *
 * Threads: any number may open connections at once. A child made by `fork` cannot use its
 * parent's connections (`RPC_NOT_OPEN`) and opens its own. The socket is closed on `exec`.
 *
 * Since: 0.1.0.
 *
 * Example:
 * ```c
 * rpc_conn_t rpc;
 * if (RPC_init(&rpc, 0, 10000, "localhost") != RPC_OK)
 *     fprintf(stderr, "%s\n", RPC_last_message(&rpc));
 * ```
 *
 * # Safety
 * `rpc` must be null or point to a writable `rpc_conn_t`; `dst_addr` must be null or a
 * NUL-terminated string.
 */
int RPC_init(rpc_conn_t *rpc,
             int src_port,
             int dst_port,
             const char *dst_addr);

/**
 * Takes the lock, waiting for it in the first-come-first-served queue. There is one lock; it
 * protects all files.
 *
 * Parameters: `rpc` (not null): an open connection.
 *
 * Blocks: until the lock is granted, for ever if others keep it, as long as the server answers;
 * without an answer for `BATON_TIMEOUT_MS` it gives up.
 *
 * State: the connection holds the lock under a lease, which every call on it renews, and a new
 * fencing token. When it holds the lock already, nothing changes: there is no nesting.
 *
 * Returns, in order of precedence:
 * - `RPC_INVALID_ARGUMENT`: null pointer. Not done.
 * - `RPC_NOT_OPEN`: not an open connection of this process. Not done.
 * - `RPC_LEASE_EXPIRED`: the lock was held, had appends and was lost meanwhile: the section is
 *   gone. Not done; call again to begin a new one.
 * - `RPC_SESSION_LOST`: the server does not know this connection any more. Not done.
 * - `RPC_REFUSED`: the server cannot take it (see `RPC_last_message`). Not done.
 * - `RPC_WOULD_BLOCK`: another thread ended the wait, by `RPC_cancel` or `RPC_close`. The place in
 *   the queue is given up. Not done.
 * - `RPC_UNAVAILABLE`: an earlier call timed out, and there is still no answer to it; this one was
 *   not begun. Not done.
 * - `RPC_TIMED_OUT`: no answer; the lock may be granted later. Outcome unknown; the next call on
 *   this connection finds out first.
 * - `RPC_OK`: done.
 *
 * Threads: calls on one connection run one after the other; a second thread waits for the first,
 * but `RPC_cancel` and `RPC_close` end its wait.
 *
 * Since: 0.1.0.
 *
 * Example:
 * ```c
 * if (RPC_lock_acquire(&rpc) == RPC_OK) {
 *     RPC_append_file(&rpc, "file_1", "hello world");
 *     RPC_lock_release(&rpc);
 * }
 * ```
 *
 * # Safety
 * `rpc` must be null or point to a `rpc_conn_t`.
 */
int RPC_lock_acquire(rpc_conn_t *rpc);

/**
 * The same as `RPC_lock_acquire`.
 *
 * # Safety
 * As for `RPC_lock_acquire`.
 */
int RPC_acquire_lock(rpc_conn_t *rpc);

/**
 * Appends a string to a file, as a part of the section that the lock holder is in. It appears in
 * the file when the lock is released, together with the rest of the section, or never.
 *
 * Parameters:
 * - `rpc` (not null): an open connection that holds the lock.
 * - `file_name` (in, not null, NUL-terminated, at most 255 bytes): a file of the server,
 *   `file_0`, `file_1`, ...; an append never creates one.
 * - `data` (in, not null, NUL-terminated): what to append, without the NUL; any length up to the
 *   server's section limit.
 *
 * Blocks: until the server has it, at most `BATON_TIMEOUT_MS` without an answer.
 *
 * State: the lease is renewed. After any failure the section is as before, or gone if the
 * status says so.
 *
 * Returns, in order of precedence:
 * - `RPC_INVALID_ARGUMENT`: null pointer. Not done.
 * - `RPC_NOT_OPEN`: not an open connection of this process. Not done.
 * - `RPC_SESSION_LOST`: the server does not know this connection any more; the section is gone.
 * - `RPC_FILE_NOT_FOUND`: no such file, also for a name that is empty or too long. Not done.
 * - `RPC_LEASE_EXPIRED`: the lock was lost, the section is gone. Not done.
 * - `RPC_NOT_HOLDER`: this connection does not hold the lock. Not done.
 * - `RPC_TOO_LARGE`: the section would grow past the server's limit. Not done.
 * - `RPC_REFUSED`: the server cannot take it (see `RPC_last_message`). Not done.
 * - `RPC_UNAVAILABLE`: an earlier call timed out, and there is still no answer to it; this one was
 *   not begun. Not done.
 * - `RPC_TIMED_OUT`: no answer. Outcome unknown; the next call finds out first.
 * - `RPC_OK`: done; a killed server keeps it.
 *
 * Threads: calls on one connection run one after the other.
 *
 * Since: 0.1.0.
 *
 * Example:
 * ```c
 * int status = RPC_append_file(&rpc, "file_1", "hello world");
 * ```
 *
 * # Safety
 * `rpc` must be null or point to a `rpc_conn_t`; `file_name` must be null, NUL-terminated, or
 * longer than 255 bytes; `data` must be null or NUL-terminated.
 */
int RPC_append_file(rpc_conn_t *rpc,
                    const char *file_name,
                    const char *data);

/**
 * Publishes the section, all of it at once and in order, and gives the lock back.
 *
 * Parameters: `rpc` (not null): an open connection that holds the lock.
 *
 * Blocks: until the section is on the server's stable storage, at most `BATON_TIMEOUT_MS`
 * without an answer.
 *
 * State: the lock is the next waiter's. After a refusal nothing of the section was published.
 *
 * Returns, in order of precedence:
 * - `RPC_INVALID_ARGUMENT`: null pointer. Not done.
 * - `RPC_NOT_OPEN`: not an open connection of this process. Not done.
 * - `RPC_SESSION_LOST`: the server does not know this connection any more. Outcome unknown.
 * - `RPC_LEASE_EXPIRED`: the lock was lost before, the section is gone. Not done.
 * - `RPC_NOT_HOLDER`: this connection does not hold the lock. Not done.
 * - `RPC_REFUSED`: the server cannot publish it now (see `RPC_last_message`). Not done: the lock
 *   is still held, the call can be made again.
 * - `RPC_UNAVAILABLE`: an earlier call timed out, and there is still no answer to it; this one was
 *   not begun. Not done.
 * - `RPC_TIMED_OUT`: no answer. Outcome unknown; the next call finds out first.
 * - `RPC_OK`: done, and durable.
 *
 * Threads: calls on one connection run one after the other.
 *
 * Since: 0.1.0.
 *
 * Example: see `RPC_lock_acquire`.
 *
 * # Safety
 * `rpc` must be null or point to a `rpc_conn_t`.
 */
int RPC_lock_release(rpc_conn_t *rpc);

/**
 * The same as `RPC_lock_release`.
 *
 * # Safety
 * As for `RPC_lock_release`.
 */
int RPC_release(rpc_conn_t *rpc);

/**
 * The same as `RPC_lock_release`.
 *
 * # Safety
 * As for `RPC_lock_release`.
 */
int RPC_release_lock(rpc_conn_t *rpc);

/**
 * Ends the session and frees its socket. A lock that is held is released first, as by
 * `RPC_lock_release`: its section is published.
 *
 * Parameters: `rpc` (not null): an open connection; its `sd` becomes -1 whatever the outcome,
 * unless the struct is refused.
 *
 * Blocks: for the server's "Disconnected!", at most 2 seconds without an answer when nothing is
 * held or under way, else at most `BATON_TIMEOUT_MS`; and for another thread's call that is
 * under way on this connection, at most as long again. Who waits for the lock is not waited for:
 * the wait is ended as by `RPC_cancel`.
 *
 * State: the connection is closed, also when the server is gone. Copies of the struct are stale.
 *
 * Returns, in order of precedence:
 * - `RPC_INVALID_ARGUMENT`: null pointer. Not done.
 * - `RPC_NOT_OPEN`: not an open connection of this process, for example closed before. Not done.
 * - `RPC_SESSION_LOST`: closed, but the server does not know this connection any more. Whether a
 *   section was published is unknown.
 * - `RPC_LEASE_EXPIRED`: closed, but the lock was lost before; the section is gone.
 * - `RPC_REFUSED`: closed here, but the server could not publish (see `RPC_last_message`).
 * - `RPC_UNAVAILABLE`: closed here, but an earlier call timed out, and its outcome stays unknown.
 * - `RPC_TIMED_OUT`: closed here, but no answer: whether a section was published is unknown.
 * - `RPC_OK`: done; what the section held is durable.
 *
 * Threads: of two threads that close the same connection one is told `RPC_NOT_OPEN`.
 *
 * Since: 0.1.0.
 *
 * Example:
 * ```c
 * RPC_close(&rpc);
 * printf("%s\n", RPC_last_message(&rpc)); // Disconnected!
 * ```
 *
 * # Safety
 * `rpc` must be null or point to a writable `rpc_conn_t`.
 */
int RPC_close(rpc_conn_t *rpc);

/**
 * Appends bytes, of which any may be NUL. In all else like `RPC_append_file`.
 *
 * Parameters:
 * - `rpc` (not null): an open connection that holds the lock.
 * - `file_name` (in, not null, NUL-terminated, at most 255 bytes): a file of the server.
 * - `data` (in, null only when `len` is 0): the bytes.
 * - `len`: how many; up to the server's section limit.
 *
 * Blocks: as `RPC_append_file`.
 *
 * Returns: as `RPC_append_file`.
 *
 * Threads: calls on one connection run one after the other.
 *
 * Since: 0.1.0.
 *
 * Example:
 * ```c
 * unsigned char record[4] = {0, 1, 2, 3};
 * int status = RPC_append_bytes(&rpc, "file_1", record, sizeof record);
 * ```
 *
 * # Safety
 * As for `RPC_append_file`, but `data` must be null or point to `len` bytes.
 */
int RPC_append_bytes(rpc_conn_t *rpc, const char *file_name, const void *data, size_t len);

/**
 * Gives the lock back and discards the section: nothing of it is ever published.
 *
 * Parameters: `rpc` (not null): an open connection that holds the lock.
 *
 * Blocks: until the server answers, at most `BATON_TIMEOUT_MS` without an answer.
 *
 * State: the lock is the next waiter's.
 *
 * Returns: as `RPC_lock_release`.
 *
 * Threads: calls on one connection run one after the other.
 *
 * Since: 0.1.0.
 *
 * Example:
 * ```c
 * if (RPC_append_file(&rpc, "file_1", "half") != RPC_OK)
 *     RPC_lock_abort(&rpc);
 * ```
 *
 * # Safety
 * `rpc` must be null or point to a `rpc_conn_t`.
 */
int RPC_lock_abort(rpc_conn_t *rpc);

/**
 * Takes the lock if it is free now; does not queue.
 *
 * Parameters: `rpc` (not null): an open connection.
 *
 * Blocks: until the server answers, at most `BATON_TIMEOUT_MS` without an answer.
 *
 * State: as `RPC_lock_acquire`.
 *
 * Returns: as `RPC_lock_acquire`, and `RPC_WOULD_BLOCK` when another holds the lock (not done).
 *
 * Threads: calls on one connection run one after the other.
 *
 * Since: 0.1.0.
 *
 * Example:
 * ```c
 * if (RPC_try_acquire(&rpc) == RPC_WOULD_BLOCK)
 *     puts("somebody else has it");
 * ```
 *
 * # Safety
 * `rpc` must be null or point to a `rpc_conn_t`.
 */
int RPC_try_acquire(rpc_conn_t *rpc);

/**
 * Takes the lock, waiting in the queue no longer than the time given.
 *
 * Parameters:
 * - `rpc` (not null): an open connection.
 * - `timeout_ms`: longest wait in milliseconds, 0 or more; 0 is `RPC_try_acquire`.
 *
 * Blocks: `timeout_ms`, and then until the server has confirmed that this connection has left
 * the queue, at most `BATON_TIMEOUT_MS` without an answer.
 *
 * State: as `RPC_lock_acquire`; after `RPC_WOULD_BLOCK` the connection holds nothing, also when
 * the grant and the timeout crossed on their way.
 *
 * Returns: as `RPC_lock_acquire`, `RPC_INVALID_ARGUMENT` also for a negative time, and
 * `RPC_WOULD_BLOCK` when the time has passed (not done).
 *
 * Threads: calls on one connection run one after the other.
 *
 * Since: 0.1.0.
 *
 * Example:
 * ```c
 * int status = RPC_acquire_timeout(&rpc, 500);
 * ```
 *
 * # Safety
 * `rpc` must be null or point to a `rpc_conn_t`.
 */
int RPC_acquire_timeout(rpc_conn_t *rpc, int timeout_ms);

/**
 * Ends another thread's wait for the lock: its `RPC_lock_acquire` or `RPC_acquire_timeout` on this
 * connection gives up the place in the queue and returns `RPC_WOULD_BLOCK`. If the lock is granted
 * first, that call returns `RPC_OK` and the lock is held.
 *
 * Parameters: `rpc` (not null): an open connection.
 *
 * Blocks: never. (The other thread's call returns when the server has confirmed that it has left the
 * queue, after at most `BATON_TIMEOUT_MS` without an answer.)
 *
 * State: as it was when no call waits for the lock: nothing is remembered for the next one. Who
 * cannot know whether the other thread waits yet calls again until it has returned.
 *
 * Returns, in order of precedence:
 * - `RPC_INVALID_ARGUMENT`: null pointer. Not done.
 * - `RPC_NOT_OPEN`: not an open connection of this process. Not done.
 * - `RPC_OK`: done, or there was nothing to end.
 *
 * Threads: any; not in a signal handler.
 *
 * Since: 0.1.0.
 *
 * Example:
 * ```c
 * // in one thread
 * if (RPC_lock_acquire(&rpc) == RPC_WOULD_BLOCK)
 *     puts("called off");
 * // in another
 * RPC_cancel(&rpc);
 * ```
 *
 * # Safety
 * `rpc` must be null or point to a `rpc_conn_t`.
 */
int RPC_cancel(rpc_conn_t *rpc);

/**
 * Renews the lease, for a holder that has nothing else to say to the server for a while.
 *
 * Parameters: `rpc` (not null): an open connection that holds the lock.
 *
 * Blocks: until the server answers, at most `BATON_TIMEOUT_MS` without an answer.
 *
 * State: a full lease from before this call.
 *
 * Returns, in order of precedence:
 * - `RPC_INVALID_ARGUMENT`: null pointer. Not done.
 * - `RPC_NOT_OPEN`: not an open connection of this process. Not done.
 * - `RPC_SESSION_LOST`: the server does not know this connection any more; the section is gone.
 * - `RPC_LEASE_EXPIRED`: too late: the lock was lost, the section is gone. Not done.
 * - `RPC_NOT_HOLDER`: this connection does not hold the lock. Not done.
 * - `RPC_UNAVAILABLE`: no answer. Not done, as far as this connection can count on.
 * - `RPC_OK`: done.
 *
 * Threads: calls on one connection run one after the other.
 *
 * Since: 0.1.0.
 *
 * Example:
 * ```c
 * if (RPC_lease_remaining_ms(&rpc) < 1000)
 *     RPC_renew(&rpc);
 * ```
 *
 * # Safety
 * `rpc` must be null or point to a `rpc_conn_t`.
 */
int RPC_renew(rpc_conn_t *rpc);

/**
 * How long the lock is surely still held, in milliseconds. Counted from before the request that
 * renewed the lease was sent, so never longer than the server believes. When it has run out the
 * lock is lost only if another connection waits for it; `RPC_renew` tells.
 *
 * Parameters: `rpc` (not null): an open connection.
 *
 * Blocks: never, not even while another thread's call is under way on the connection.
 *
 * Returns: 0 or more: the milliseconds, 0 when nothing is held; -1: `rpc` is null or not an open
 * connection of this process.
 *
 * Threads: any.
 *
 * Since: 0.1.0.
 *
 * Example: see `RPC_renew`.
 *
 * # Safety
 * `rpc` must be null or point to a `rpc_conn_t`.
 */
long long RPC_lease_remaining_ms(rpc_conn_t *rpc);

/**
 * The fencing token of the lock that is held. Each grant has a greater one than every grant
 * before it, so other systems can refuse the writes of a holder that has been overtaken.
 *
 * Parameters:
 * - `rpc` (not null): an open connection.
 * - `out` (out, not null): the token; untouched unless the call succeeds.
 *
 * Blocks: never, not even while another thread's call is under way on the connection.
 *
 * Returns, in order of precedence:
 * - `RPC_INVALID_ARGUMENT`: null pointer.
 * - `RPC_NOT_OPEN`: not an open connection of this process.
 * - `RPC_NOT_HOLDER`: nothing is held, as far as this connection knows.
 * - `RPC_OK`: `out` has the token.
 *
 * Threads: any.
 *
 * Since: 0.1.0.
 *
 * Example:
 * ```c
 * uint64_t token;
 * if (RPC_fencing_token(&rpc, &token) == RPC_OK)
 *     printf("%llu\n", (unsigned long long)token);
 * ```
 *
 * # Safety
 * `rpc` must be null or point to a `rpc_conn_t`, `out` null or to a writable `uint64_t`.
 */
int RPC_fencing_token(rpc_conn_t *rpc, uint64_t *out);

/**
 * Reads published bytes of a file; no lock is needed. What is returned is on stable storage.
 *
 * Parameters:
 * - `rpc` (not null): an open connection.
 * - `file_name` (in, not null, NUL-terminated, at most 255 bytes): a file of the server.
 * - `offset`: where to begin, in bytes from the start of the file.
 * - `buf` (out, null only when `cap` is 0): where the bytes go; no NUL is added.
 * - `cap`: room there, in bytes.
 * - `n` (out, not null): how many bytes were read; fewer than `cap` only at the end of the file,
 *   0 from there on. Untouched unless the call succeeds; `buf` may then have been written to.
 *
 * Blocks: until the server has answered, at most `BATON_TIMEOUT_MS` without an answer.
 *
 * State: a held lease is renewed.
 *
 * Returns, in order of precedence:
 * - `RPC_INVALID_ARGUMENT`: null pointer. Not done.
 * - `RPC_NOT_OPEN`: not an open connection of this process. Not done.
 * - `RPC_SESSION_LOST`: the server does not know this connection any more. Not done.
 * - `RPC_FILE_NOT_FOUND`: no such file. Not done.
 * - `RPC_REFUSED`: the server cannot read it (see `RPC_last_message`). Not done.
 * - `RPC_UNAVAILABLE`: no answer. Not done.
 * - `RPC_OK`: done.
 *
 * Threads: calls on one connection run one after the other.
 *
 * Since: 0.1.0.
 *
 * Example:
 * ```c
 * char text[BUFFER_SIZE];
 * size_t n;
 * if (RPC_read_file(&rpc, "file_1", 0, text, sizeof text, &n) == RPC_OK)
 *     fwrite(text, 1, n, stdout);
 * ```
 *
 * # Safety
 * `rpc` must be null or point to a `rpc_conn_t`; `file_name` must be null, NUL-terminated, or
 * longer than 255 bytes; `buf` must be null or point to `cap` writable bytes, `n` null or to a
 * writable `size_t`.
 */
int RPC_read_file(rpc_conn_t *rpc,
                  const char *file_name,
                  uint64_t offset,
                  void *buf,
                  size_t cap,
                  size_t *n);

/**
 * What the newest call on the connection said: "Connected!" after `RPC_init`, "Disconnected!"
 * after `RPC_close`, after a failure its status and the details, on one line, in English.
 *
 * Parameters: `rpc`: a connection. For one that is not open, or null, it is what this thread's
 * newest call said that failed to open, closed, or found a connection not open.
 *
 * Blocks: never.
 *
 * Returns: a NUL-terminated string, never null, at most 511 bytes. It belongs to the library and
 * stays as it is until the same thread calls `RPC_last_message` again or ends.
 *
 * Threads: any; each has a string of its own.
 *
 * Since: 0.1.0.
 *
 * Example: see `RPC_init`.
 *
 * # Safety
 * `rpc` must be null or point to a `rpc_conn_t`.
 */
const char *RPC_last_message(rpc_conn_t *rpc);

/**
 * A status in words, with what it says of the outcome: done, not done, or unknown.
 *
 * Parameters: `status`: what another call returned; any number.
 *
 * Blocks: never.
 *
 * Returns: a NUL-terminated string, never null, "unknown status" for other numbers; constant.
 *
 * Threads: any.
 *
 * Since: 0.1.0.
 *
 * Example:
 * ```c
 * fprintf(stderr, "%s\n", RPC_strerror(status));
 * ```
 *
 * # Safety
 * None: it takes no pointer.
 */
const char *RPC_strerror(int status);

/**
 * The version of the library, for example "0.1.0".
 *
 * Parameters: none.
 *
 * Blocks: never.
 *
 * Returns: a NUL-terminated string, never null; constant.
 *
 * Threads: any.
 *
 * Since: 0.1.0.
 *
 * Example:
 * ```c
 * printf("libbaton %s\n", RPC_version());
 * ```
 *
 * # Safety
 * None: it takes no pointer.
 */
const char *RPC_version(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* BATON_RPC_H */
