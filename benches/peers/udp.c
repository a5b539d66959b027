/* Bare round trips to the echo server, over an unconnected socket as our library's. Work:
 *   trip    one round trip                       (what no request can beat)
 *   trips   three of them                        (acquire, append, release without any logic)
 *   write   three, the last one writes           (... and their log, handed to the kernel)
 *   sync    three, the last one writes and syncs (... and made stable)
 *   window  --size bytes as 1,200-byte datagrams, at most 64 of them unacknowledged */
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define REQUEST 96 /* about what an append of 32 bytes takes */
#define DATAGRAM 1200
#define WINDOW 64
#define TIMEOUT_MS 500

struct state {
    int sd;
    struct sockaddr_in to;
    char *acknowledged;
};

void peer_open(struct load_client *client) {
    struct state *state = load_memory(sizeof *state);
    state->sd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (state->sd < 0) load_fail("socket", strerror(errno));
    load_set_timeout(state->sd, TIMEOUT_MS);
    state->to.sin_family = AF_INET;
    state->to.sin_port = htons((uint16_t)client->options->port);
    inet_pton(AF_INET, client->options->host, &state->to.sin_addr);
    state->acknowledged = load_memory(client->options->size / DATAGRAM + 1);
    client->state = state;
}

static void put(struct state *state, const char *data, size_t length) {
    sendto(state->sd, data, length, 0, (struct sockaddr *)&state->to, sizeof state->to);
}

static ssize_t take(struct state *state, char *data, size_t room) {
    struct sockaddr_in from;
    socklen_t from_len = sizeof from;
    return recvfrom(state->sd, data, room, 0, (struct sockaddr *)&from, &from_len);
}

/* A datagram that is lost is sent again, so that the program does not hang; it does not happen. */
static void trip(struct state *state, char kind) {
    char data[DATAGRAM] = {kind};
    do put(state, data, REQUEST);
    while (take(state, data, sizeof data) != REQUEST);
}

static void window(struct state *state, size_t size) {
    size_t total = (size + DATAGRAM - 1) / DATAGRAM, done = 0, next = 0;
    char data[DATAGRAM] = {'d'}, reply[DATAGRAM];
    memset(state->acknowledged, 0, total);
    while (done < total) {
        for (; next < total && next < done + WINDOW; next++) {
            memcpy(data + 8, &next, sizeof next);
            put(state, data, sizeof data);
        }
        if (take(state, reply, sizeof reply) < 0) {
            next = done; /* something was lost: go back */
            continue;
        }
        size_t seen;
        memcpy(&seen, reply + 8, sizeof seen);
        if (seen < total) state->acknowledged[seen] = 1;
        while (done < total && state->acknowledged[done]) done++;
    }
}

void peer_cycle(struct load_client *client) {
    struct state *state = client->state;
    const char *work = client->options->work;
    if (strcmp(work, "window") == 0) {
        window(state, client->options->size);
        return;
    }
    if (strcmp(work, "trip") != 0) {
        trip(state, 'e');
        trip(state, 'e');
    }
    trip(state, strcmp(work, "write") == 0 ? 'w' : strcmp(work, "sync") == 0 ? 's' : 'e');
}

void peer_close(struct load_client *client) {
    struct state *state = client->state;
    close(state->sd);
}
