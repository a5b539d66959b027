/* Every function once, as C and as C++, with string literals and without looking at results; and
 * the layout that binaries rely on. It is compiled, not run. */
#include <stddef.h>
#include "rpc.h"
#include "spinlock.h"

#ifdef __cplusplus
#define STATIC_ASSERT(condition) static_assert(condition, #condition)
#else
#define STATIC_ASSERT(condition) _Static_assert(condition, #condition)
#endif

STATIC_ASSERT(sizeof(rpc_conn_t) == 40);
STATIC_ASSERT(sizeof(struct rpc_conn) == sizeof(rpc_connection));
STATIC_ASSERT(offsetof(rpc_conn_t, sd) == 0);
STATIC_ASSERT(offsetof(rpc_conn_t, send_addr) == 4);
STATIC_ASSERT(offsetof(rpc_conn_t, recv_addr) == 20);
STATIC_ASSERT(offsetof(rpc_conn_t, client_id) == 36);
STATIC_ASSERT(sizeof(spinlock_t) == sizeof(int) && offsetof(struct spinlock, lock_flag) == 0);
STATIC_ASSERT(RPC_OK == 0 && RPC_FILE_NOT_FOUND == 1 && RPC_NOT_HOLDER == 2);
STATIC_ASSERT(RPC_LEASE_EXPIRED == 3 && RPC_WOULD_BLOCK == 4 && RPC_TIMED_OUT == 5);
STATIC_ASSERT(RPC_UNAVAILABLE == 6 && RPC_SESSION_LOST == 7 && RPC_TOO_LARGE == 8);
STATIC_ASSERT(RPC_INVALID_ARGUMENT == 9 && RPC_NOT_OPEN == 10 && RPC_SYSTEM_ERROR == 11);
STATIC_ASSERT(RPC_REFUSED == 12 && RPC_INTERNAL == 13);
STATIC_ASSERT(BUFFER_SIZE == 1024);

int main(void)
{
    rpc_conn_t rpc;
    rpc_connection *same = &rpc;
    uint64_t token;
    char text[BUFFER_SIZE];
    size_t n;
    RPC_init(&rpc, 20000, 10000, "localhost");
    RPC_lock_acquire(same);
    RPC_acquire_lock(&rpc);
    RPC_try_acquire(&rpc);
    RPC_acquire_timeout(&rpc, 500);
    RPC_cancel(&rpc);
    RPC_append_file(&rpc, "file_1", "hello world");
    RPC_append_bytes(&rpc, "file_1", "\0\1", 2);
    RPC_renew(&rpc);
    RPC_lease_remaining_ms(&rpc);
    RPC_fencing_token(&rpc, &token);
    RPC_lock_abort(&rpc);
    RPC_lock_release(&rpc);
    RPC_release(&rpc);
    RPC_release_lock(&rpc);
    RPC_read_file(&rpc, "file_1", 0, text, sizeof text, &n);
    RPC_close(&rpc);
    puts(RPC_last_message(&rpc));
    puts(RPC_strerror(RPC_OK));
    puts(RPC_version());

    struct sockaddr_in address;
    UDP_FillSockAddr(&address, "localhost", 10000);
    int sd = UDP_Open(20000);
    UDP_Write(sd, &address, "hello", 5);
    UDP_Read(sd, &address, text, BUFFER_SIZE);
    UDP_Close(sd);

    spinlock_t lock;
    spinlock_init(&lock);
    spinlock_acquire(&lock);
    spinlock_release(&lock);
    return 0;
}
