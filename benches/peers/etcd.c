/* The cycle on etcd: Lock, put, Unlock of its v3 API, as JSON over HTTP/1.1 by its own gateway,
 * on one connection kept open. The lease of each client is granted once. */
#include "load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct state {
    int sd;
    char lease[32], answer[8192];
};

/* Sends one POST and reads its answer, whose length etcd always states. */
static void post(struct state *state, const char *path, const char *body) {
    char out[2048];
    int length = snprintf(out, sizeof out,
                          "POST %s HTTP/1.1\r\nHost: etcd\r\nContent-Type: application/json\r\n"
                          "Content-Length: %zu\r\n\r\n%s",
                          path, strlen(body), body);
    if (send(state->sd, out, (size_t)length, MSG_NOSIGNAL) != length) {
        load_fail("send", strerror(errno));
    }
    size_t have = 0;
    for (;;) {
        ssize_t got = recv(state->sd, state->answer + have, sizeof state->answer - 1 - have, 0);
        if (got <= 0) load_fail("etcd", "closed the connection");
        have += (size_t)got;
        state->answer[have] = 0;
        char *end = strstr(state->answer, "\r\n\r\n");
        char *stated = strstr(state->answer, "Content-Length: ");
        if (end == NULL) continue;
        if (strncmp(state->answer, "HTTP/1.1 200", 12) != 0) load_fail("etcd", state->answer);
        if (stated == NULL || stated > end) load_fail("etcd", "an answer without a length");
        size_t whole = (size_t)(end + 4 - state->answer) + strtoul(stated + 16, NULL, 10);
        if (have >= whole) return;
    }
}

/* The text of a field in the last answer. */
static void field(struct state *state, const char *name, char *into, size_t room) {
    char quoted[64];
    snprintf(quoted, sizeof quoted, "\"%s\":\"", name);
    char *at = strstr(state->answer, quoted);
    if (at == NULL) load_fail("etcd has not said", name);
    at += strlen(quoted);
    size_t length = strcspn(at, "\"");
    if (length >= room) load_fail("too long", name);
    memcpy(into, at, length);
    into[length] = 0;
}

void peer_open(struct load_client *client) {
    struct state *state = load_memory(sizeof *state);
    state->sd = load_connect(client->options, SOCK_STREAM);
    post(state, "/v3/lease/grant", "{\"TTL\":600}");
    field(state, "ID", state->lease, sizeof state->lease);
    client->state = state;
}

void peer_cycle(struct load_client *client) {
    struct state *state = client->state;
    char body[512], key[256], number[24] = "";
    /* "lock" and "file_0/" in base64; the value is 32 bytes. */
    snprintf(body, sizeof body, "{\"name\":\"bG9jaw==\",\"lease\":\"%s\"}", state->lease);
    post(state, "/v3/lock/lock", body);
    field(state, "key", key, sizeof key);
    snprintf(number, sizeof number, "%08lu", client->cycles % 100000000);
    snprintf(body, sizeof body,
             "{\"key\":\"ZmlsZV8w%s\",\"value\":\"eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHg=\"}",
             number);
    post(state, "/v3/kv/put", body);
    snprintf(body, sizeof body, "{\"key\":\"%s\"}", key);
    post(state, "/v3/lock/unlock", body);
}

void peer_close(struct load_client *client) {
    struct state *state = client->state;
    close(state->sd);
}
