/* A test-and-set spin lock. Part of Baton; see docs/C_API.md.
   Generated from the Rust sources: change those, then `make fix`. */

#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE 1
#endif

#ifndef BATON_SPINLOCK_H
#define BATON_SPINLOCK_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <assert.h>

/**
 * A test-and-set spin lock, the one that the server uses, for the threads of one process. It is
 * for sections of a few instructions: who waits keeps a processor busy, then yields it between
 * looks. It is not fair and does not nest: a thread that takes it twice waits for ever. A
 * zeroed struct is a free lock.
 */
struct spinlock {
  /**
   * 0 when free.
   */
  int lock_flag;
};

/**
 * What programs call it.
 */
typedef struct spinlock spinlock_t;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Makes the lock free.
 *
 * Parameters: `lock` (out): the lock; no thread may be using it.
 *
 * Blocks: never.
 *
 * Returns: 0, or -1 when `lock` is null.
 *
 * Threads: one, before the others start.
 *
 * Since: 0.1.0.
 *
 * Example:
 * ```c
 * spinlock_t lock;
 * spinlock_init(&lock);
 * ```
 *
 * # Safety
 * `lock` must be null or point to a writable `spinlock_t`.
 */
int spinlock_init(spinlock_t *lock);

/**
 * Takes the lock, waiting until it is free. Everything that the last holder wrote before its
 * `spinlock_release` is seen.
 *
 * Parameters: `lock`: the lock; nothing happens when it is null.
 *
 * Blocks: until the holder releases it.
 *
 * Threads: any of the process.
 *
 * Since: 0.1.0.
 *
 * Example:
 * ```c
 * spinlock_acquire(&lock);
 * counter++;
 * spinlock_release(&lock);
 * ```
 *
 * # Safety
 * `lock` must be null or point to a `spinlock_t` that was initialised or is zeroed.
 */
void spinlock_acquire(spinlock_t *lock);

/**
 * Frees the lock.
 *
 * Parameters: `lock`: the lock, held by this thread; nothing happens when it is null.
 *
 * Blocks: never.
 *
 * Threads: the one that holds it.
 *
 * Since: 0.1.0.
 *
 * Example: see `spinlock_acquire`.
 *
 * # Safety
 * As for `spinlock_acquire`.
 */
void spinlock_release(spinlock_t *lock);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* BATON_SPINLOCK_H */
