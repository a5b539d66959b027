/* The basic workflow: connect, take the lock, append to a file, give the lock back, disconnect;
 * every status is looked at.
 *
 *   cc basic.c $(pkg-config --cflags --libs baton) -o basic
 *   ./basic [HOST [PORT [FILE [TEXT]]]]          defaults: localhost 10000 file_0 "hello world\n"
 */
#include "rpc.h"

/* Says how a call ended. The library never prints anything itself. */
static int check(rpc_conn_t *rpc, const char *what, int status)
{
    if (status == RPC_OK)
        printf("%-20s %s\n", what, RPC_last_message(rpc));
    else
        fprintf(stderr, "%-20s status %d: %s\n", what, status, RPC_last_message(rpc));
    return status;
}

int main(int argc, char *argv[])
{
    const char *host = argc > 1 ? argv[1] : "localhost";
    int port = argc > 2 ? atoi(argv[2]) : 10000;
    const char *file = argc > 3 ? argv[3] : "file_0";
    const char *text = argc > 4 ? argv[4] : "hello world\n";
    rpc_conn_t rpc;
    uint64_t token;

    /* Local port 0: any free one will do. */
    if (check(&rpc, "RPC_init", RPC_init(&rpc, 0, port, host)) != RPC_OK)
        return EXIT_FAILURE;

    /* Blocks until everybody before us has given the lock back. */
    int status = check(&rpc, "RPC_lock_acquire", RPC_lock_acquire(&rpc));
    if (status == RPC_OK && RPC_fencing_token(&rpc, &token) == RPC_OK)
        printf("client %d, token %llu, lease %lld ms\n", rpc.client_id,
               (unsigned long long)token, RPC_lease_remaining_ms(&rpc));

    /* Appends are staged: nobody sees them before the release, which publishes them at once. */
    if (status == RPC_OK)
        status = check(&rpc, "RPC_append_file", RPC_append_file(&rpc, file, text));
    if (status == RPC_OK)
        status = check(&rpc, "RPC_lock_release", RPC_lock_release(&rpc));
    else
        RPC_lock_abort(&rpc); /* half a section is worse than none */

    int closed = check(&rpc, "RPC_close", RPC_close(&rpc));
    return status == RPC_OK && closed == RPC_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}
