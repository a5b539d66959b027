/*
 * A client as a process of its own, told line by line what to do: tests stop it, resume it, kill it,
 * and read how each call ended. One command a line on standard input:
 *
 *   init SERVERS [PORT]   acquire   try   wait MS   append FILE DATA   fill FILE COUNT
 *   release   abort   renew   read FILE OFFSET COUNT   lease   token   message   close
 *
 * and one line for each on standard output: the command, its status, and what it gave.
 */
#include "rpc.h"

#include <stdint.h>

static rpc_conn_t conn;

/* The token that the connection holds, or 0. */
static unsigned long long token(void) {
    uint64_t value = 0;
    return RPC_fencing_token(&conn, &value) == 0 ? (unsigned long long)value : 0;
}

/* Appends `count` letters x in one call. */
static int fill(char *file, size_t count) {
    char *data = malloc(count + 1);
    if (data == NULL) {
        return -1;
    }
    memset(data, 'x', count);
    data[count] = '\0';
    int status = RPC_append_file(&conn, file, data);
    free(data);
    return status;
}

static void read_back(char *file, char *offset, char *count) {
    static char buf[1 << 16];
    size_t n = 0;
    size_t cap = strtoul(count, NULL, 10);
    int status = RPC_read_file(&conn, file, strtoull(offset, NULL, 10), buf,
                               cap < sizeof buf ? cap : sizeof buf, &n);
    printf("read %d %.*s\n", status, (int)n, buf);
}

/* Carries out one command whose words are w[0..n); the rest of w are empty strings. */
static void carry_out(char *w[4], int n) {
    if (strcmp(w[0], "init") == 0) {
        int status = RPC_init(&conn, n > 2 ? atoi(w[2]) : 0, 10000, w[1]);
        printf("init %d %d\n", status, status == 0 ? conn.client_id : 0);
    } else if (strcmp(w[0], "acquire") == 0) {
        int status = RPC_lock_acquire(&conn);
        printf("acquire %d %llu\n", status, token());
    } else if (strcmp(w[0], "try") == 0) {
        int status = RPC_try_acquire(&conn);
        printf("try %d %llu\n", status, token());
    } else if (strcmp(w[0], "wait") == 0) {
        int status = RPC_acquire_timeout(&conn, atoi(w[1]));
        printf("wait %d %llu\n", status, token());
    } else if (strcmp(w[0], "append") == 0) {
        printf("append %d\n", RPC_append_file(&conn, w[1], w[2]));
    } else if (strcmp(w[0], "fill") == 0) {
        printf("fill %d\n", fill(w[1], strtoul(w[2], NULL, 10)));
    } else if (strcmp(w[0], "release") == 0) {
        printf("release %d\n", RPC_lock_release(&conn));
    } else if (strcmp(w[0], "abort") == 0) {
        printf("abort %d\n", RPC_lock_abort(&conn));
    } else if (strcmp(w[0], "renew") == 0) {
        printf("renew %d\n", RPC_renew(&conn));
    } else if (strcmp(w[0], "read") == 0) {
        read_back(w[1], w[2], w[3]);
    } else if (strcmp(w[0], "lease") == 0) {
        printf("lease 0 %lld\n", (long long)RPC_lease_remaining_ms(&conn));
    } else if (strcmp(w[0], "token") == 0) {
        printf("token 0 %llu\n", token());
    } else if (strcmp(w[0], "message") == 0) {
        printf("message 0 %s\n", RPC_last_message(&conn));
    } else if (strcmp(w[0], "close") == 0) {
        printf("close %d\n", RPC_close(&conn));
    } else {
        printf("%s -1 unknown command\n", w[0]);
    }
}

int main(void) {
    static char line[1 << 16];
    while (fgets(line, sizeof line, stdin) != NULL) {
        char *words[4] = {"", "", "", ""};
        int n = 0;
        for (char *word = strtok(line, " \n"); word != NULL && n < 4; word = strtok(NULL, " \n")) {
            words[n++] = word;
        }
        if (n > 0) {
            carry_out(words, n);
            fflush(stdout);
        }
    }
    return 0;
}
