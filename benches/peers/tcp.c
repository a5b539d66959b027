/* A bare round trip over TCP to another process, as between the servers of a cluster: --size bytes
 * there and back. Each client has an echo of its own, which ends with it. */
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

static void echo(int listener) {
    char buffer[4096];
    int yes = 1, sd = accept(listener, NULL, NULL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (sd < 0) _exit(1);
    setsockopt(sd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    for (;;) {
        ssize_t got = recv(sd, buffer, sizeof buffer, 0);
        if (got <= 0 || send(sd, buffer, (size_t)got, MSG_NOSIGNAL) != got) _exit(0);
    }
}

void peer_open(struct load_client *client) {
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t addr_len = sizeof addr;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&addr, sizeof addr) != 0 ||
        listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&addr, &addr_len) != 0) {
        load_fail("listen", strerror(errno));
    }
    pid_t child = fork();
    if (child < 0) load_fail("fork", strerror(errno));
    if (child == 0) echo(listener);
    struct load_options to = *client->options;
    to.port = ntohs(addr.sin_port);
    int *sd = load_memory(sizeof *sd);
    *sd = load_connect(&to, SOCK_STREAM);
    close(listener);
    client->state = sd;
}

void peer_cycle(struct load_client *client) {
    char buffer[4096];
    size_t size = client->options->size, have = 0;
    int sd = *(int *)client->state;
    memset(buffer, 'x', size);
    if (send(sd, buffer, size, MSG_NOSIGNAL) != (ssize_t)size) load_fail("send", strerror(errno));
    while (have < size) {
        ssize_t got = recv(sd, buffer, size - have, 0);
        if (got <= 0) load_fail("recv", got == 0 ? "closed" : strerror(errno));
        have += (size_t)got;
    }
}

void peer_close(struct load_client *client) {
    close(*(int *)client->state);
}
