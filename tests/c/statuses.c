/* Provokes the statuses that bad_input.c does not, and what they leave behind. The server has a
 * short lease and a section limit of 1 KiB; at the end this program kills it. */
#include <pthread.h>
#include <signal.h>
#include "check.h"

static int port;

static void *acquire(void *rpc)
{
    CHECK(RPC_lock_acquire((rpc_conn_t *)rpc), RPC_OK);
    return NULL;
}

static int read_all(rpc_conn_t *rpc, const char *name, char text[BUFFER_SIZE])
{
    size_t n = 0;
    int status = RPC_read_file(rpc, name, 0, text, BUFFER_SIZE - 1, &n);
    text[n] = '\0';
    return status;
}

static void a_taken_port_is_a_system_error(const rpc_conn_t *open_connection)
{
    struct sockaddr_in own;
    socklen_t size = sizeof own;
    rpc_conn_t rpc;
    getsockname(open_connection->sd, (struct sockaddr *)&own, &size);
    CHECK(RPC_init(&rpc, ntohs(own.sin_port), port, "localhost"), RPC_SYSTEM_ERROR);
    CHECK(errno, EADDRINUSE);
    CHECK(rpc.sd, -1);
}

static void a_taken_lock_is_not_waited_for(rpc_conn_t *first, rpc_conn_t *second)
{
    CHECK(RPC_lock_acquire(first), RPC_OK);
    CHECK(RPC_lock_acquire(first), RPC_OK); /* no nesting, no self-deadlock */
    CHECK(RPC_try_acquire(second), RPC_WOULD_BLOCK);
    CHECK(RPC_acquire_timeout(second, 0), RPC_WOULD_BLOCK);
    CHECK(RPC_acquire_timeout(second, 10), RPC_WOULD_BLOCK);
    CHECK(RPC_append_file(second, "file_0", "x"), RPC_NOT_HOLDER);
    CHECK(RPC_lock_release(first), RPC_OK);
    CHECK(RPC_acquire_timeout(second, 10000), RPC_OK);
    CHECK(RPC_lock_abort(second), RPC_OK);
}

static void a_section_has_a_limit(rpc_conn_t *rpc)
{
    static char large[2000], text[BUFFER_SIZE];
    memset(large, 'l', sizeof large - 1);
    CHECK(RPC_lock_acquire(rpc), RPC_OK);
    CHECK(RPC_append_file(rpc, "file_1", "small"), RPC_OK);
    CHECK(RPC_append_file(rpc, "file_1", large), RPC_TOO_LARGE);
    CHECK(RPC_lock_release(rpc), RPC_OK);
    CHECK(read_all(rpc, "file_1", text), RPC_OK);
    CHECK_TEXT(text, "small");
}

/* The stalled holder loses the lock to the waiter, and what it appended is never seen. */
static void a_stalled_holder_loses_the_lock(rpc_conn_t *first, rpc_conn_t *second)
{
    uint64_t token_1 = 0, token_2 = 0;
    char text[BUFFER_SIZE];
    pthread_t waiter;
    CHECK(RPC_lock_acquire(first), RPC_OK);
    CHECK(RPC_fencing_token(first, &token_1), RPC_OK);
    CHECK(RPC_append_file(first, "file_2", "lost"), RPC_OK);
    CHECK(RPC_lease_remaining_ms(first) > 0, 1);
    CHECK(pthread_create(&waiter, NULL, acquire, second), 0);
    CHECK(pthread_join(waiter, NULL), 0);
    CHECK(RPC_lease_remaining_ms(first), 0);
    CHECK(RPC_fencing_token(second, &token_2), RPC_OK);
    CHECK(token_2 > token_1, 1);
    CHECK(RPC_append_file(first, "file_2", "late"), RPC_LEASE_EXPIRED);
    CHECK(RPC_renew(second), RPC_OK);
    CHECK(RPC_append_bytes(second, "file_2", "kept", 4), RPC_OK);
    CHECK(RPC_close(second), RPC_OK); /* publishes */
    CHECK(read_all(first, "file_2", text), RPC_OK);
    CHECK_TEXT(text, "kept");
}

static void a_dead_server_is_told_in_time(rpc_conn_t *rpc, pid_t server)
{
    char text[BUFFER_SIZE];
    rpc_conn_t late;
    CHECK(kill(server, SIGKILL), 0);
    CHECK(RPC_init(&late, 0, port, "localhost"), RPC_UNAVAILABLE);
    CHECK(read_all(rpc, "file_2", text), RPC_UNAVAILABLE);
    CHECK(RPC_lock_acquire(rpc), RPC_TIMED_OUT);
    CHECK_TEXT(RPC_last_message(rpc), RPC_strerror(RPC_TIMED_OUT));
    CHECK(RPC_lock_release(rpc), RPC_UNAVAILABLE); /* not begun: the acquire is still open */
    CHECK(RPC_close(rpc), RPC_UNAVAILABLE);
    CHECK(rpc->sd, -1);
    CHECK(RPC_close(rpc), RPC_NOT_OPEN);
}

int main(int argc, char *argv[])
{
    rpc_conn_t first, second;
    pid_t server = argc > 2 ? atoi(argv[2]) : 0;
    port = argc > 1 ? atoi(argv[1]) : 10000;
    CHECK(RPC_init(&first, 0, port, "localhost"), RPC_OK);
    CHECK(RPC_init(&second, 0, port, "localhost"), RPC_OK);
    a_taken_port_is_a_system_error(&first);
    a_taken_lock_is_not_waited_for(&first, &second);
    a_section_has_a_limit(&first);
    a_stalled_holder_loses_the_lock(&first, &second);
    if (server > 0)
        a_dead_server_is_told_in_time(&first, server);
    return check_result();
}
