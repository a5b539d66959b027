/* One connection in the hands of several threads, and of a forked child. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>
#include "check.h"

#define THREADS 4
#define ROUNDS 50

static int port;
static rpc_conn_t shared;

/* Until somebody is in the queue, as the program that BATON names says. */
static void await_waiter(void)
{
    char command[200];
    snprintf(command, sizeof command,
             "\"$BATON\" status --json --server localhost:%d | grep -q '\"waiters\": *1'", port);
    while (system(command) != 0)
        ;
}

static void *append(void *unused)
{
    for (int i = 0; i < ROUNDS; i++)
        CHECK(RPC_append_file(&shared, "file_0", "x"), RPC_OK);
    return unused;
}

static void threads_take_turns(void)
{
    pthread_t thread[THREADS];
    CHECK(RPC_lock_acquire(&shared), RPC_OK);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&thread[i], NULL, append, NULL), 0);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(thread[i], NULL), 0);
    CHECK(RPC_lock_release(&shared), RPC_OK);

    char text[THREADS * ROUNDS + 1];
    size_t n = 0;
    CHECK(RPC_read_file(&shared, "file_0", 0, text, sizeof text, &n), RPC_OK);
    CHECK(n, THREADS * ROUNDS);
}

static void *acquire(void *unused)
{
    CHECK(RPC_lock_acquire(&shared), RPC_OK);
    return unused;
}

/* In the child: the parent's connection is nobody's, whatever the parent's threads were doing. */
static int in_the_child(void)
{
    rpc_conn_t own;
    uint64_t token;
    check_failures = 0;
    CHECK(RPC_append_file(&shared, "file_0", "y"), RPC_NOT_OPEN);
    CHECK(RPC_lease_remaining_ms(&shared), -1);
    CHECK(RPC_fencing_token(&shared, &token), RPC_NOT_OPEN);
    CHECK(RPC_close(&shared), RPC_NOT_OPEN);
    CHECK(RPC_init(&own, 0, port, "localhost"), RPC_OK);
    CHECK(own.client_id != shared.client_id, 1);
    CHECK(RPC_try_acquire(&own), RPC_WOULD_BLOCK);
    CHECK(RPC_close(&own), RPC_OK);
    return check_failures;
}

/* While one thread waits for the lock, others look at the connection, and the process forks. */
static void a_waiting_call_is_in_nobodys_way(void)
{
    rpc_conn_t holder;
    uint64_t token = 7;
    pthread_t waiter;
    CHECK(RPC_init(&holder, 0, port, "localhost"), RPC_OK);
    CHECK(RPC_lock_acquire(&holder), RPC_OK);
    CHECK(pthread_create(&waiter, NULL, acquire, NULL), 0);
    await_waiter();

    CHECK(RPC_fencing_token(&shared, &token), RPC_NOT_HOLDER);
    CHECK(RPC_lease_remaining_ms(&shared), 0);
    CHECK(strlen(RPC_last_message(&shared)) > 0, 1);

    pid_t child = fork();
    if (child == 0)
        _exit(in_the_child());
    int ended = -1;
    CHECK(waitpid(child, &ended, 0), child);
    CHECK(ended, 0);

    CHECK(RPC_lock_release(&holder), RPC_OK);
    CHECK(pthread_join(waiter, NULL), 0);
    CHECK(RPC_fencing_token(&shared, &token), RPC_OK);
    CHECK(token != 7, 1);
    CHECK(RPC_lease_remaining_ms(&shared) > 0, 1);
    CHECK(RPC_lock_release(&shared), RPC_OK);
    CHECK(RPC_close(&holder), RPC_OK);
}

/* A connection that a thread waits on, or is just about to. */
struct wait {
    rpc_conn_t rpc;
    int timeout_ms; /* negative: none */
    int status;
};

static void *wait_for_lock(void *argument)
{
    struct wait *wait = argument;
    wait->status = wait->timeout_ms < 0 ? RPC_lock_acquire(&wait->rpc)
                                        : RPC_acquire_timeout(&wait->rpc, wait->timeout_ms);
    return NULL;
}

/* Called off, a wait ends and nothing is left of it in the queue. */
static void a_wait_can_be_called_off(void)
{
    rpc_conn_t holder, next;
    struct wait wait;
    pthread_t thread;
    CHECK(RPC_init(&holder, 0, port, "localhost"), RPC_OK);
    CHECK(RPC_init(&next, 0, port, "localhost"), RPC_OK);
    CHECK(RPC_init(&wait.rpc, 0, port, "localhost"), RPC_OK);
    CHECK(RPC_cancel(&wait.rpc), RPC_OK); /* nothing waits, nothing is remembered */
    for (int i = 0; i < 4; i++) {
        CHECK(RPC_lock_acquire(&holder), RPC_OK);
        wait.timeout_ms = i % 2 ? 60000 : -1;
        CHECK(pthread_create(&thread, NULL, wait_for_lock, &wait), 0);
        if (i < 2)
            await_waiter(); /* the other times it is perhaps not there yet */
        struct timespec soon;
        do {
            CHECK(RPC_cancel(&wait.rpc), RPC_OK);
            clock_gettime(CLOCK_REALTIME, &soon);
            soon.tv_nsec += soon.tv_nsec < 999000000 ? 1000000 : 0;
        } while (pthread_timedjoin_np(thread, NULL, &soon) != 0);
        CHECK(wait.status, RPC_WOULD_BLOCK);
        CHECK(RPC_lock_release(&holder), RPC_OK);
        CHECK(RPC_try_acquire(&next), RPC_OK); /* nobody is in the queue */
        CHECK(RPC_lock_release(&next), RPC_OK);
    }
    CHECK(RPC_lock_acquire(&wait.rpc), RPC_OK);
    CHECK(RPC_cancel(&wait.rpc), RPC_OK); /* what is held stays held */
    CHECK(RPC_lock_release(&wait.rpc), RPC_OK);
    CHECK(RPC_close(&wait.rpc), RPC_OK);
    CHECK(RPC_cancel(&wait.rpc), RPC_NOT_OPEN);
    CHECK(RPC_cancel(NULL), RPC_INVALID_ARGUMENT);
    CHECK(RPC_close(&next), RPC_OK);
    CHECK(RPC_close(&holder), RPC_OK);
}

/* Closing does not wait for who waits, not even for one that begins to wait at the same moment. */
static void closing_ends_a_wait(void)
{
    rpc_conn_t holder;
    CHECK(RPC_init(&holder, 0, port, "localhost"), RPC_OK);
    for (int i = 0; i < 20; i++) {
        struct wait wait = {.timeout_ms = -1};
        pthread_t thread;
        CHECK(RPC_init(&wait.rpc, 0, port, "localhost"), RPC_OK);
        rpc_conn_t copy = wait.rpc;
        CHECK(RPC_lock_acquire(&holder), RPC_OK);
        CHECK(pthread_create(&thread, NULL, wait_for_lock, &wait), 0);
        for (int pause = 0; pause < 200 * i * (i % 2); pause++)
            sched_yield(); /* before, while and after the call begins */
        CHECK(RPC_close(&copy), RPC_OK);
        CHECK(pthread_join(thread, NULL), 0);
        CHECK(wait.status == RPC_WOULD_BLOCK || wait.status == RPC_NOT_OPEN, 1);
        CHECK(RPC_lock_release(&holder), RPC_OK);
        CHECK(RPC_try_acquire(&holder), RPC_OK);
        CHECK(RPC_lock_release(&holder), RPC_OK);
    }
    CHECK(RPC_close(&holder), RPC_OK);
}

int main(int argc, char *argv[])
{
    port = argc > 1 ? atoi(argv[1]) : 10000;
    CHECK(RPC_init(&shared, 0, port, "localhost"), RPC_OK);
    threads_take_turns();
    a_waiting_call_is_in_nobodys_way();
    a_wait_can_be_called_off();
    closing_ends_a_wait();
    CHECK(RPC_close(&shared), RPC_OK);
    return check_result();
}
