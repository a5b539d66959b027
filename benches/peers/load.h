/* What a load generator of the benchmark brings; load.c has the rest. */
#ifndef BATON_BENCH_LOAD_H
#define BATON_BENCH_LOAD_H

#include <stddef.h>
#include <stdint.h>

/* The command line, the same for all. */
struct load_options {
    const char *host;
    int port;
    const char *work;  /* what one cycle is; each peer knows its own names */
    const char *path;  /* a file or directory, where the peer needs one */
    int clients;
    size_t size; /* bytes of an append */
};

/* One client, used by one thread. */
struct load_client {
    const struct load_options *options;
    int number;
    unsigned long cycles;
    void *state;
};

/* Each peer defines these three. A failure ends the program with load_fail. */
void peer_open(struct load_client *client);
void peer_cycle(struct load_client *client);
void peer_close(struct load_client *client);

/* Prints the message and exits. */
void load_fail(const char *what, const char *why) __attribute__((noreturn));
void *load_memory(size_t size);
/* A blocking socket connected to options->host:port; type SOCK_STREAM or SOCK_DGRAM. */
int load_connect(const struct load_options *options, int type);
void load_set_timeout(int sd, int timeout_ms);

#endif
