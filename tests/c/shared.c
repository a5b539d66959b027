/* One connection in the hands of several threads, and of a forked child. */
#include <pthread.h>
#include "check.h"

#define THREADS 4
#define ROUNDS 50

static int port;
static rpc_conn_t shared;

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
    usleep(100 * 1000); /* so that it surely waits; the test also passes when it does not yet */

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

int main(int argc, char *argv[])
{
    port = argc > 1 ? atoi(argv[1]) : 10000;
    CHECK(RPC_init(&shared, 0, port, "localhost"), RPC_OK);
    threads_take_turns();
    a_waiting_call_is_in_nobodys_way();
    CHECK(RPC_close(&shared), RPC_OK);
    return check_result();
}
