/* A client as students write it for the coursework: one include, no status looked at. */
#include "rpc.h"

int main(int argc, char *argv[])
{
    rpc_conn_t rpc;
    int port = argc > 1 ? atoi(argv[1]) : 10000;
    char message[BUFFER_SIZE];

    bzero(message, BUFFER_SIZE);
    sprintf(message, "hello world");
    RPC_init(&rpc, 0, port, "localhost");
    assert(rpc.sd > -1);
    RPC_acquire_lock(&rpc);
    RPC_append_file(&rpc, "file_1", "hello world");
    RPC_append_file(&rpc, "file_1", message);
    usleep(1);
    RPC_release_lock(&rpc);
    RPC_lock_acquire(&rpc);
    RPC_release(&rpc);
    RPC_close(&rpc);
    printf("done\n");
    return 0;
}
