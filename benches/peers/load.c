/* Clients that run cycles of peer_cycle as fast as they can, one thread each, all at once, and
 * how long each cycle took. Prints the JSON object that `baton bench --json` prints. */
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct samples {
    uint32_t *ns;
    size_t count, room;
};

struct thread {
    pthread_t id;
    struct load_client client;
    struct samples samples;
};

static struct load_options options = {
    .host = "127.0.0.1", .work = "", .path = "", .clients = 1, .size = 32};
static double seconds = 1, warm_up = 0.2;
static pthread_barrier_t start;
static atomic_bool is_measuring, is_over;

void load_fail(const char *what, const char *why) {
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

void *load_memory(size_t size) {
    void *memory = calloc(1, size);
    if (memory == NULL) load_fail("memory", strerror(errno));
    return memory;
}

int load_connect(const struct load_options *to, int type) {
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons((uint16_t)to->port)};
    int sd = socket(AF_INET, type | SOCK_CLOEXEC, 0), yes = 1;
    if (sd < 0 || inet_pton(AF_INET, to->host, &addr.sin_addr) != 1) {
        load_fail("socket", strerror(errno));
    }
    if (connect(sd, (struct sockaddr *)&addr, sizeof addr) != 0) {
        load_fail("connect", strerror(errno));
    }
    if (type == SOCK_STREAM) setsockopt(sd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    return sd;
}

void load_set_timeout(int sd, int timeout_ms) {
    struct timeval time = {timeout_ms / 1000, timeout_ms % 1000 * 1000};
    if (setsockopt(sd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time) != 0) {
        load_fail("SO_RCVTIMEO", strerror(errno));
    }
}

static uint64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void record(struct samples *samples, uint64_t ns) {
    if (samples->count == samples->room) {
        samples->room = samples->room ? 2 * samples->room : 1 << 16;
        samples->ns = realloc(samples->ns, samples->room * sizeof *samples->ns);
        if (samples->ns == NULL) load_fail("memory", strerror(errno));
    }
    samples->ns[samples->count++] = ns > UINT32_MAX ? UINT32_MAX : (uint32_t)ns;
}

static void *work(void *argument) {
    struct thread *thread = argument;
    pthread_barrier_wait(&start);
    while (!atomic_load_explicit(&is_over, memory_order_relaxed)) {
        bool is_kept = atomic_load_explicit(&is_measuring, memory_order_relaxed);
        uint64_t begun = now_ns();
        peer_cycle(&thread->client);
        if (is_kept) record(&thread->samples, now_ns() - begun);
        thread->client.cycles++;
    }
    peer_close(&thread->client);
    return NULL;
}

static void pause_for(double time) {
    struct timespec left = {(time_t)time, (long)((time - (double)(time_t)time) * 1e9)};
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
}

static int compare(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static double quantile(const struct samples *all, double at) {
    if (all->count == 0) return 0;
    size_t index = (size_t)(at * (double)all->count);
    return all->ns[index < all->count ? index : all->count - 1] / 1e3;
}

static void report(struct thread *threads, double elapsed) {
    struct samples all = {NULL, 0, 0};
    size_t least = SIZE_MAX;
    double sum = 0;
    for (int i = 0; i < options.clients; i++) {
        struct samples *one = &threads[i].samples;
        if (one->count < least) least = one->count;
        for (size_t j = 0; j < one->count; j++) record(&all, one->ns[j]);
    }
    qsort(all.ns, all.count, sizeof *all.ns, compare);
    for (size_t j = 0; j < all.count; j++) sum += all.ns[j] / 1e3;
    double count = (double)all.count, mean = count / options.clients;
    printf("{\"clients\": %d, \"size\": %zu, \"seconds\": %.6f, \"count\": %zu, ", options.clients,
           options.size, elapsed, all.count);
    printf("\"per_second\": %.3f, \"least_of_mean\": %.4f, ", count / elapsed,
           mean > 0 ? (double)least / mean : 0);
    printf("\"latency_us\": {\"total\": {\"p50\": %.3f, \"p90\": %.3f, \"p99\": %.3f, "
           "\"p999\": %.3f, \"max\": %.3f, \"mean\": %.3f}}, \"percentiles_us\": [",
           quantile(&all, 0.5), quantile(&all, 0.9), quantile(&all, 0.99), quantile(&all, 0.999),
           quantile(&all, 1), count > 0 ? sum / count : 0);
    for (int percent = 1; percent < 100; percent++) {
        printf("%.3f, ", quantile(&all, percent / 100.0));
    }
    printf("%.3f]}\n", quantile(&all, 0.999));
}

static void parse(int argc, char **argv) {
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *name = argv[i], *value = argv[i + 1];
        if (strcmp(name, "--host") == 0) options.host = value;
        else if (strcmp(name, "--port") == 0) options.port = atoi(value);
        else if (strcmp(name, "--work") == 0) options.work = value;
        else if (strcmp(name, "--path") == 0) options.path = value;
        else if (strcmp(name, "--clients") == 0) options.clients = atoi(value);
        else if (strcmp(name, "--size") == 0) options.size = (size_t)atol(value);
        else if (strcmp(name, "--seconds") == 0) seconds = atof(value);
        else if (strcmp(name, "--warm-up") == 0) warm_up = atof(value);
        else load_fail(name, "unknown option");
    }
    if (options.clients < 1) load_fail("--clients", "at least 1");
}

int main(int argc, char **argv) {
    parse(argc, argv);
    struct thread *threads = load_memory((size_t)options.clients * sizeof *threads);
    pthread_barrier_init(&start, NULL, (unsigned)options.clients + 1);
    for (int i = 0; i < options.clients; i++) {
        threads[i].client.options = &options;
        threads[i].client.number = i;
        peer_open(&threads[i].client);
    }
    for (int i = 0; i < options.clients; i++) {
        if (pthread_create(&threads[i].id, NULL, work, &threads[i]) != 0) {
            load_fail("thread", strerror(errno));
        }
    }
    pthread_barrier_wait(&start);
    pause_for(warm_up);
    atomic_store(&is_measuring, true);
    uint64_t begun = now_ns();
    pause_for(seconds);
    atomic_store(&is_measuring, false);
    double elapsed = (double)(now_ns() - begun) / 1e9;
    atomic_store(&is_over, true);
    for (int i = 0; i < options.clients; i++) pthread_join(threads[i].id, NULL);
    report(threads, elapsed);
    return 0;
}
