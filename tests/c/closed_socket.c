/*
 * The program closes the socket of a connection itself, and its number is taken by another file:
 * every call then has a status, nothing is printed, and the other file is left alone.
 */
#include "check.h"

int main(int argc, char **argv) {
    (void)argc;
    rpc_conn_t rpc;
    CHECK(RPC_init(&rpc, 0, atoi(argv[2]), argv[1]), RPC_OK);
    int sd = rpc.sd;
    CHECK(close(sd), 0);
    CHECK(RPC_lock_acquire(&rpc), RPC_SYSTEM_ERROR);
    int other = open("/dev/null", O_RDONLY);
    CHECK(other, sd);
    CHECK(RPC_lock_acquire(&rpc), RPC_NOT_OPEN);
    CHECK(RPC_lock_release(&rpc), RPC_NOT_OPEN);
    CHECK(RPC_close(&rpc), RPC_NOT_OPEN);
    CHECK(fcntl(other, F_GETFD) != -1, 1);
    CHECK(RPC_close(&rpc), RPC_NOT_OPEN);
    return check_result();
}
