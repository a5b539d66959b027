/* A bare UDP echo server, with the system calls that Baton's server makes and nothing else:
 *
 *   echo THREADS FILE
 *
 * prints the port it listens on and serves until it is killed. The first byte of a datagram says
 * what is done before it goes back: 'e' nothing, 'w' 100 bytes are written to FILE, 's' the same
 * and fdatasync, 'd' nothing, and only its first 16 bytes go back. FILE is allocated beforehand
 * and written over and over. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FILE_SIZE (64l << 20)
#define RECORD 100

static int sd, fd;
static atomic_long offset;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void *serve(void *unused) {
    char buffer[1201], record[RECORD];
    (void)unused;
    memset(record, 'x', sizeof record);
    for (;;) {
        struct sockaddr_in from;
        socklen_t from_len = sizeof from;
        ssize_t got = recvfrom(sd, buffer, sizeof buffer, 0, (struct sockaddr *)&from, &from_len);
        if (got <= 0) continue;
        if (buffer[0] == 'w' || buffer[0] == 's') {
            long at = atomic_fetch_add(&offset, RECORD) % (FILE_SIZE - RECORD);
            if (pwrite(fd, record, sizeof record, at) != RECORD) fail("pwrite");
            if (buffer[0] == 's' && fdatasync(fd) != 0) fail("fdatasync");
        }
        size_t back = buffer[0] == 'd' && got > 16 ? 16 : (size_t)got;
        if (sendto(sd, buffer, back, 0, (struct sockaddr *)&from, from_len) < 0) continue;
    }
    return NULL;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: echo THREADS FILE\n");
        return 2;
    }
    int size = 4 << 20;
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t addr_len = sizeof addr;
    sd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (sd < 0 || bind(sd, (struct sockaddr *)&addr, sizeof addr) != 0) fail("socket");
    setsockopt(sd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    if (getsockname(sd, (struct sockaddr *)&addr, &addr_len) != 0) fail("getsockname");
    fd = open(argv[2], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || posix_fallocate(fd, 0, FILE_SIZE) != 0 || fsync(fd) != 0) fail(argv[2]);
    printf("%d\n", ntohs(addr.sin_port));
    fflush(stdout);
    for (int i = 1; i < atoi(argv[1]); i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, serve, NULL) != 0) fail("thread");
    }
    serve(NULL);
}
