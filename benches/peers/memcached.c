/* The cycle on memcached over UDP: add (again and again while another has the lock), append,
 * delete. An item may have 1 MB, so the file is begun anew now and then. */
#include "load.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FRAME 8
#define ANEW 1024
#define TIMEOUT_MS 500

struct state {
    int sd;
    unsigned number;
    char *append;
    size_t append_len;
    char *data;
};

/* One command, one answer; a lost datagram is sent again. */
static int ask(struct state *state, const char *command, size_t length, const char *wanted) {
    char out[2048], in[2048];
    unsigned number = ++state->number & 0xffff;
    const char frame[FRAME] = {(char)(number >> 8), (char)number, 0, 0, 0, 1, 0, 0};
    memcpy(out, frame, FRAME);
    memcpy(out + FRAME, command, length);
    for (;;) {
        if (send(state->sd, out, FRAME + length, 0) < 0) load_fail("send", strerror(errno));
        ssize_t got;
        do got = recv(state->sd, in, sizeof in - 1, 0);
        while (got >= 2 && memcmp(in, frame, 2) != 0);
        if (got < FRAME) continue;
        in[got] = 0;
        if (strncmp(in + FRAME, "ERROR", 5) == 0 || strstr(in + FRAME, "_ERROR") != NULL) {
            load_fail("memcached", in + FRAME);
        }
        return strncmp(in + FRAME, wanted, strlen(wanted)) == 0;
    }
}

void peer_open(struct load_client *client) {
    struct state *state = load_memory(sizeof *state);
    size_t size = client->options->size;
    if (size > 1024) load_fail("--size", "at most 1024 here");
    state->sd = load_connect(client->options, SOCK_DGRAM);
    load_set_timeout(state->sd, TIMEOUT_MS);
    state->append = load_memory(size + 64);
    int head = sprintf(state->append, "append file_0 0 0 %zu\r\n", size);
    memset(state->append + head, 'x', size);
    memcpy(state->append + head + size, "\r\n", 2);
    state->append_len = (size_t)head + size + 2;
    client->state = state;
    if (client->number == 0) ask(state, "delete lock\r\n", 13, "DELETED");
}

void peer_cycle(struct load_client *client) {
    static const char add[] = "add lock 0 30 1\r\n1\r\n", anew[] = "set file_0 0 0 1\r\nx\r\n";
    struct state *state = client->state;
    while (!ask(state, add, sizeof add - 1, "STORED")) sched_yield();
    if (client->cycles % ANEW == 0) ask(state, anew, sizeof anew - 1, "STORED");
    if (!ask(state, state->append, state->append_len, "STORED")) load_fail("append", "refused");
    if (!ask(state, "delete lock\r\n", 13, "DELETED")) load_fail("delete", "refused");
}

void peer_close(struct load_client *client) {
    struct state *state = client->state;
    close(state->sd);
}
