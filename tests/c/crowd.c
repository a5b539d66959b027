/*
 * Scenario 1f: many clients at once, each with a connection of its own, each appending sections of
 * three lines "TOKEN THREAD SECTION LINE" to file_0. Prints nothing unless a call fails.
 *
 *   crowd HOST:PORT THREADS SECTIONS
 */
#include "rpc.h"

#include <inttypes.h>
#include <pthread.h>

static const char *server;
static int sections;

static void check(int status, const char *call) {
    if (status != RPC_OK) {
        printf("%s: %s\n", call, RPC_strerror(status));
        exit(1);
    }
}

static void *work(void *argument) {
    int thread = *(int *)argument;
    rpc_conn_t rpc;
    check(RPC_init(&rpc, 0, 10000, server), "init");
    for (int section = 0; section < sections; section++) {
        uint64_t token = 0;
        check(RPC_lock_acquire(&rpc), "acquire");
        check(RPC_fencing_token(&rpc, &token), "token");
        for (int line = 0; line < 3; line++) {
            char text[BUFFER_SIZE];
            snprintf(text, sizeof text, "%" PRIu64 " %d %d %d\n", token, thread, section, line);
            check(RPC_append_file(&rpc, "file_0", text), "append");
        }
        check(RPC_lock_release(&rpc), "release");
    }
    check(RPC_close(&rpc), "close");
    return NULL;
}

int main(int argc, char *argv[]) {
    if (argc != 4) {
        return 2;
    }
    server = argv[1];
    int threads = atoi(argv[2]);
    sections = atoi(argv[3]);
    pthread_t *ids = calloc((size_t)threads, sizeof *ids);
    int *numbers = calloc((size_t)threads, sizeof *numbers);
    for (int i = 0; i < threads; i++) {
        numbers[i] = i;
        if (pthread_create(&ids[i], NULL, work, &numbers[i]) != 0) {
            return 3;
        }
    }
    for (int i = 0; i < threads; i++) {
        pthread_join(ids[i], NULL);
    }
    free(ids);
    free(numbers);
    return 0;
}
