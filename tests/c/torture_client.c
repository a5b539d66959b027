/*
 * One client of the torture test: takes the lock, appends, releases, as fast as it can, until its
 * standard input ends, and writes a journal of what it was about to do and what it was told.
 *
 *   torture_client SERVERS CLIENT SEED JOURNAL LETTERS
 *
 * LETTERS is the length that a long line may have.
 *
 * The journal has one line for each step; NS is CLOCK_MONOTONIC, the same for all processes:
 *
 *   grant SECTION TOKEN NS                 the lock was acquired
 *   append SECTION FILE K LENGTH STATUS    line K of the section, with LENGTH letters
 *   publish SECTION NS                     about to call release
 *   released SECTION STATUS                what release returned
 *   discard SECTION NS                     about to call abort
 *   aborted SECTION STATUS                 what abort returned
 *   refused SECTION STATUS                 the lock was not acquired
 *   end STATUS                             what close returned
 *
 * In the files, line K of N of a section is: cCLIENT SECTION TOKEN K/N LETTERS
 */
#include "rpc.h"

#include <stdint.h>
#include <time.h>

enum { FILES = 4, LINES_MAX = 4, SHORT_LETTERS = 40, LETTERS_MAX = 1 << 20 };

static rpc_conn_t conn;
static FILE *journal;
static int client;
static uint64_t long_letters;
static uint64_t random_state;

/* SplitMix64. */
static uint64_t random_below(uint64_t bound) {
    uint64_t z = (random_state += 0x9E3779B97F4A7C15ULL);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return (z ^ (z >> 31)) % bound;
}

static long long now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (long long)now.tv_sec * 1000000000LL + now.tv_nsec;
}

static int is_told_to_end(void) {
    struct timeval none = {0, 0};
    fd_set input;
    FD_ZERO(&input);
    FD_SET(0, &input);
    return select(1, &input, NULL, NULL, &none) > 0;
}

/* Acquires in one of the three ways; the plain one most often. */
static int acquire(void) {
    switch (random_below(10)) {
    case 0: return RPC_try_acquire(&conn);
    case 1: return RPC_acquire_timeout(&conn, (int)random_below(20));
    default: return RPC_lock_acquire(&conn);
    }
}

/* Appends line k of n; now and then one that needs several datagrams. */
static int append(unsigned long section, unsigned long long token, int k, int n) {
    static char data[LETTERS_MAX + 100];
    char file[16];
    uint64_t letters = random_below(random_below(8) == 0 ? long_letters : SHORT_LETTERS);
    int at = snprintf(data, 100, "c%d %lu %llu %d/%d ", client, section, token, k, n);
    memset(data + at, 'a' + k % 26, letters);
    memcpy(data + at + letters, "\n", 2);
    snprintf(file, sizeof file, "file_%d", (int)random_below(FILES));
    int status = RPC_append_file(&conn, file, data);
    fprintf(journal, "append %lu %s %d %d %d\n", section, file, k, (int)letters, status);
    return status;
}

static void run_section(unsigned long section) {
    uint64_t token = 0;
    int status = acquire();
    if (status != 0) {
        fprintf(journal, "refused %lu %d\n", section, status);
        return;
    }
    RPC_fencing_token(&conn, &token);
    fprintf(journal, "grant %lu %llu %lld\n", section, (unsigned long long)token, now_ns());
    int lines = 1 + (int)random_below(LINES_MAX);
    for (int k = 1; k <= lines && status == 0; k++) {
        status = append(section, token, k, lines);
    }
    if (status == 0 && random_below(10) != 0) {
        fprintf(journal, "publish %lu %lld\n", section, now_ns());
        fprintf(journal, "released %lu %d\n", section, RPC_lock_release(&conn));
    } else {
        fprintf(journal, "discard %lu %lld\n", section, now_ns());
        fprintf(journal, "aborted %lu %d\n", section, RPC_lock_abort(&conn));
    }
}

int main(int argc, char **argv) {
    long_letters = argc == 6 ? strtoull(argv[5], NULL, 10) : 0;
    if (long_letters == 0 || long_letters > LETTERS_MAX) {
        fprintf(stderr, "usage: torture_client SERVERS CLIENT SEED JOURNAL LETTERS\n");
        return 2;
    }
    client = atoi(argv[2]);
    random_state = strtoull(argv[3], NULL, 10) + (uint64_t)client * 1000003;
    journal = fopen(argv[4], "w");
    if (journal == NULL) {
        perror(argv[4]);
        return 2;
    }
    setvbuf(journal, NULL, _IOLBF, 0);
    int status = RPC_init(&conn, 0, 10000, argv[1]);
    if (status != 0) {
        fprintf(stderr, "client %d: init: %s\n", client, RPC_strerror(status));
        return 1;
    }
    for (unsigned long section = 1; !is_told_to_end(); section++) {
        run_section(section);
    }
    fprintf(journal, "end %d\n", RPC_close(&conn));
    return fclose(journal) == 0 ? 0 : 1;
}
