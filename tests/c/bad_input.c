/* Everything that a program can do wrong with one connection, and the status it gets. */
#include <stdint.h>
#include "check.h"

static int port;

/* Every call on a struct that names no open connection of this process. */
static void check_refused(rpc_conn_t *rpc, int status)
{
    uint64_t token = 7;
    char text[8] = "intact";
    size_t n = 7;
    CHECK(RPC_lock_acquire(rpc), status);
    CHECK(RPC_acquire_lock(rpc), status);
    CHECK(RPC_try_acquire(rpc), status);
    CHECK(RPC_acquire_timeout(rpc, 1), status);
    CHECK(RPC_append_file(rpc, "file_0", "x"), status);
    CHECK(RPC_append_bytes(rpc, "file_0", "x", 1), status);
    CHECK(RPC_renew(rpc), status);
    CHECK(RPC_lock_abort(rpc), status);
    CHECK(RPC_lock_release(rpc), status);
    CHECK(RPC_release(rpc), status);
    CHECK(RPC_release_lock(rpc), status);
    CHECK(RPC_read_file(rpc, "file_0", 0, text, sizeof text, &n), status);
    CHECK(RPC_fencing_token(rpc, &token), status);
    CHECK(RPC_lease_remaining_ms(rpc), -1);
    CHECK(RPC_close(rpc), status);
    CHECK(strstr(RPC_last_message(rpc), "not done") != NULL, 1);
    CHECK(token == 7 && n == 7, 1);
    CHECK_TEXT(text, "intact");
}

static void structs_that_are_no_connection(void)
{
    rpc_conn_t rpc;
    check_refused(NULL, RPC_INVALID_ARGUMENT);
    check_refused((rpc_conn_t *)((char *)&rpc + 1), RPC_INVALID_ARGUMENT);
    memset(&rpc, 0, sizeof rpc);
    check_refused(&rpc, RPC_NOT_OPEN);
    memset(&rpc, 0x5a, sizeof rpc);
    check_refused(&rpc, RPC_NOT_OPEN);
}

static void arguments_of_init(void)
{
    static char long_host[5001];
    rpc_conn_t rpc;
    memset(long_host, 'h', 5000);
    CHECK(RPC_init(NULL, 0, port, "localhost"), RPC_INVALID_ARGUMENT);
    CHECK(RPC_init(&rpc, 0, port, NULL), RPC_INVALID_ARGUMENT);
    CHECK(rpc.sd, -1);
    CHECK(rpc.client_id, 0);
    CHECK(RPC_init(&rpc, -1, port, "localhost"), RPC_INVALID_ARGUMENT);
    CHECK(RPC_init(&rpc, 65536, port, "localhost"), RPC_INVALID_ARGUMENT);
    CHECK(RPC_init(&rpc, 0, 0, "localhost"), RPC_INVALID_ARGUMENT);
    CHECK(RPC_init(&rpc, 0, -1, "localhost"), RPC_INVALID_ARGUMENT);
    CHECK(RPC_init(&rpc, 0, 65536, "localhost"), RPC_INVALID_ARGUMENT);
    CHECK(RPC_init(&rpc, 0, port, ""), RPC_INVALID_ARGUMENT);
    CHECK(RPC_init(&rpc, 0, port, ","), RPC_INVALID_ARGUMENT);
    CHECK(RPC_init(&rpc, 0, port, "localhost:0"), RPC_INVALID_ARGUMENT);
    CHECK(RPC_init(&rpc, 0, port, "localhost:x"), RPC_INVALID_ARGUMENT);
    CHECK(RPC_init(&rpc, 0, port, "\xff\xfe"), RPC_INVALID_ARGUMENT);
    CHECK(RPC_init(&rpc, 0, port, long_host), RPC_INVALID_ARGUMENT);
    CHECK(RPC_init(&rpc, 0, port, "no.such.host.invalid"), RPC_INVALID_ARGUMENT);
    CHECK(strstr(RPC_last_message(&rpc), "no.such.host.invalid") != NULL, 1);
    check_refused(&rpc, RPC_NOT_OPEN);
}

/* A name array of exactly `length` bytes without a NUL: a checker sees a read beyond it. */
static int append_unterminated(rpc_conn_t *rpc, size_t length)
{
    char *name = malloc(length);
    memset(name, 'n', length);
    int status = RPC_append_file(rpc, name, "x");
    free(name);
    return status;
}

static void names_and_data(rpc_conn_t *rpc)
{
    static const char *const unknown[] = {
        "", "/", ".", "..", "file_100", "file_07", "file_-1", "file_", "file_0/", "./file_0",
        "../file_0", "../../etc/passwd", "/etc/passwd", ".baton/wal", "FILE_0", " file_0",
        "file_0\n", "file_99999999999999999999", "\xff\xfe",
    };
    char buffer[4];
    size_t n = 7;
    CHECK(RPC_append_file(rpc, NULL, "x"), RPC_INVALID_ARGUMENT);
    CHECK(RPC_append_file(rpc, "file_0", NULL), RPC_INVALID_ARGUMENT);
    CHECK(RPC_append_bytes(rpc, NULL, "x", 1), RPC_INVALID_ARGUMENT);
    CHECK(RPC_append_bytes(rpc, "file_0", NULL, 1), RPC_INVALID_ARGUMENT);
    CHECK(RPC_append_bytes(rpc, "file_0", "x", SIZE_MAX), RPC_INVALID_ARGUMENT);
    CHECK(RPC_append_file(rpc, "file_0", "x"), RPC_NOT_HOLDER);
    CHECK(RPC_lock_release(rpc), RPC_NOT_HOLDER);
    CHECK(RPC_lock_abort(rpc), RPC_NOT_HOLDER);
    CHECK(RPC_renew(rpc), RPC_NOT_HOLDER);

    CHECK(RPC_lock_acquire(rpc), RPC_OK);
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        CHECK(RPC_append_file(rpc, unknown[i], "x"), RPC_FILE_NOT_FOUND);
        CHECK(RPC_read_file(rpc, unknown[i], 0, buffer, 4, &n), RPC_FILE_NOT_FOUND);
    }
    CHECK(append_unterminated(rpc, 256), RPC_FILE_NOT_FOUND);
    CHECK(append_unterminated(rpc, 300), RPC_FILE_NOT_FOUND);
    CHECK(RPC_append_file(rpc, "file_0\0/../x", "a"), RPC_OK); /* ends at its NUL */
    CHECK(RPC_append_file(rpc, "file_0", ""), RPC_OK);
    CHECK(RPC_append_bytes(rpc, "file_0", NULL, 0), RPC_OK);
    CHECK(RPC_append_bytes(rpc, "file_0", "\0b", 2), RPC_OK);
    CHECK(RPC_lock_release(rpc), RPC_OK);

    CHECK(RPC_read_file(rpc, NULL, 0, buffer, 4, &n), RPC_INVALID_ARGUMENT);
    CHECK(RPC_read_file(rpc, "file_0", 0, NULL, 4, &n), RPC_INVALID_ARGUMENT);
    CHECK(RPC_read_file(rpc, "file_0", 0, buffer, SIZE_MAX, &n), RPC_INVALID_ARGUMENT);
    CHECK(RPC_read_file(rpc, "file_0", 0, buffer, 4, NULL), RPC_INVALID_ARGUMENT);
    CHECK(n, 7);
    CHECK(RPC_read_file(rpc, "file_0", 0, buffer, 4, &n), RPC_OK);
    CHECK(n == 3 && memcmp(buffer, "a\0b", 3) == 0, 1);
    CHECK(RPC_read_file(rpc, "file_0", UINT64_MAX, buffer, 4, &n), RPC_OK);
    CHECK(n, 0);
    CHECK(RPC_read_file(rpc, "file_0", 0, NULL, 0, &n), RPC_OK);
}

static void the_rest(rpc_conn_t *rpc)
{
    uint64_t token = 7;
    CHECK(RPC_acquire_timeout(rpc, -1), RPC_INVALID_ARGUMENT);
    CHECK(RPC_fencing_token(rpc, NULL), RPC_INVALID_ARGUMENT);
    CHECK(RPC_fencing_token(rpc, &token), RPC_NOT_HOLDER);
    CHECK(token, 7);
    CHECK(RPC_lease_remaining_ms(rpc), 0);
    CHECK(strlen(RPC_last_message(NULL)) > 0, 1);
    CHECK_TEXT(RPC_strerror(RPC_OK), "ok");
    CHECK_TEXT(RPC_strerror(RPC_INTERNAL + 1), "unknown status");
    CHECK_TEXT(RPC_strerror(-1), "unknown status");
    CHECK(strlen(RPC_version()) > 0, 1);
}

static void copies_and_closing(rpc_conn_t *rpc)
{
    rpc_conn_t copy = *rpc, copy_of_copy = copy;
    CHECK(RPC_lock_acquire(&copy), RPC_OK); /* the same connection */
    CHECK(RPC_append_file(rpc, "file_1", "by either"), RPC_OK);
    CHECK(RPC_lock_release(&copy), RPC_OK);
    CHECK(RPC_close(&copy), RPC_OK);
    CHECK(copy.sd, -1);
    CHECK_TEXT(RPC_last_message(&copy), "Disconnected!");
    check_refused(&copy, RPC_NOT_OPEN); /* double close, use after close */
    check_refused(rpc, RPC_NOT_OPEN);   /* stale */
    check_refused(&copy_of_copy, RPC_NOT_OPEN);

    /* The struct, open or not, can be opened again. */
    CHECK(RPC_init(rpc, 0, port, "localhost"), RPC_OK);
    rpc_conn_t first = *rpc;
    CHECK(RPC_init(rpc, 0, port, "127.0.0.1,localhost:1"), RPC_OK);
    CHECK(rpc->sd != first.sd && rpc->client_id != first.client_id, 1);
    CHECK(RPC_close(&first), RPC_OK);
    CHECK(RPC_close(rpc), RPC_OK);
}

static void arguments_of_udp(void)
{
    struct sockaddr_in address;
    char buffer[4];
    int sd = UDP_Open(0);
    CHECK(sd > -1, 1);
    CHECK(UDP_Open(-1), -1);
    CHECK(errno, EINVAL);
    CHECK(UDP_Open(65536), -1);
    CHECK(UDP_Read(sd, NULL, buffer, 4), -1);
    CHECK(UDP_Read(sd, &address, NULL, 4), -1);
    CHECK(UDP_Read(sd, &address, buffer, -1), -1);
    CHECK(UDP_Write(sd, NULL, buffer, 4), -1);
    CHECK(UDP_Write(sd, &address, NULL, 4), -1);
    errno = 0;
    CHECK(UDP_Write(sd, &address, buffer, -1), -1);
    CHECK(errno, EINVAL);
    CHECK(UDP_FillSockAddr(NULL, "localhost", 1), -1);
    CHECK(UDP_FillSockAddr(&address, "localhost", 65536), -1);
    CHECK(UDP_FillSockAddr(&address, "no.such.host.invalid", 1), -1);
    CHECK(errno, EHOSTUNREACH);
    CHECK(address.sin_family, 0);
    memset(&address, 0x5a, sizeof address);
    CHECK(UDP_FillSockAddr(&address, NULL, 99999), 0);
    CHECK(address.sin_family == 0 && address.sin_port == 0 && address.sin_addr.s_addr == 0, 1);
    CHECK(UDP_FillSockAddr(&address, "127.0.0.1", 65535), 0);
    CHECK(address.sin_family == AF_INET && address.sin_port == 0xffff, 1);
    CHECK(address.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
    CHECK(UDP_Close(sd), 0);
    CHECK(UDP_Close(sd), -1);
    CHECK(errno, EBADF);
}

int main(int argc, char *argv[])
{
    rpc_conn_t rpc;
    port = argc > 1 ? atoi(argv[1]) : 10000;
    structs_that_are_no_connection();
    arguments_of_init();
    CHECK(RPC_init(&rpc, 0, port, "localhost"), RPC_OK);
    CHECK_TEXT(RPC_last_message(&rpc), "Connected!");
    CHECK(rpc.sd > -1 && rpc.client_id > 0, 1);
    CHECK(ntohs(rpc.send_addr.sin_port), port);
    CHECK(ntohs(rpc.recv_addr.sin_port), port);
    names_and_data(&rpc);
    the_rest(&rpc);
    copies_and_closing(&rpc);
    arguments_of_udp();
    return check_result();
}
