/* N threads, each with a connection of its own, contend for the lock and append sections of three
 * lines to file_0; then the file is read back: no section may be torn apart by another.
 *
 *   cc contend.c $(pkg-config --cflags --libs baton) -pthread -o contend
 *   ./contend [HOST [PORT [THREADS [SECTIONS]]]]                 defaults: localhost 10000 10 10
 */
#include <pthread.h>
#include "rpc.h"

#define LINES 3

static const char *host = "localhost";
static int port = 10000, threads = 10, sections = 10;
static long run; /* marks the lines of this run */

static void *work(void *argument)
{
    int thread = *(int *)argument;
    rpc_conn_t rpc;
    int failures = RPC_init(&rpc, 0, port, host) != RPC_OK;
    for (int section = 0; section < sections && !failures; section++) {
        failures += RPC_lock_acquire(&rpc) != RPC_OK;
        for (int line = 0; line < LINES; line++) {
            char text[BUFFER_SIZE];
            snprintf(text, sizeof text, "run %ld thread %d section %d line %d\n", run,
                     thread, section, line);
            failures += RPC_append_file(&rpc, "file_0", text) != RPC_OK;
        }
        failures += RPC_lock_release(&rpc) != RPC_OK;
    }
    if (failures)
        fprintf(stderr, "thread %d: %s\n", thread, RPC_last_message(&rpc));
    RPC_close(&rpc);
    return failures ? argument : NULL;
}

/* The first bytes of file_0 as a string, to be freed; NULL when it cannot be read. */
static char *read_back(void)
{
    const size_t room = 16 << 20;
    rpc_conn_t rpc;
    size_t n = 0;
    char *text = calloc(1, room + 1);
    int status = RPC_init(&rpc, 0, port, host);
    if (text && status == RPC_OK)
        status = RPC_read_file(&rpc, "file_0", 0, text, room, &n);
    if (status != RPC_OK)
        fprintf(stderr, "reading back: %s\n", RPC_last_message(&rpc));
    RPC_close(&rpc);
    return text;
}

/* How many whole sections of this run are in the text; -1 when one is torn apart. */
static int count_sections(char *text)
{
    int count = 0, next = 0, in_thread = -1, in_section = -1;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        long r;
        int t, s, l;
        int is_ours = sscanf(line, "run %ld thread %d section %d line %d", &r, &t, &s, &l) == 4;
        if ((!is_ours || r != run) && next == 0)
            continue; /* from another run, and not in the midst of a section of ours */
        if (!is_ours || r != run || l != next || (l > 0 && (t != in_thread || s != in_section)))
            return -1;
        in_thread = t, in_section = s, next = (l + 1) % LINES;
        count += next == 0;
    }
    return next == 0 ? count : -1;
}

int main(int argc, char *argv[])
{
    host = argc > 1 ? argv[1] : host;
    port = argc > 2 ? atoi(argv[2]) : port;
    threads = argc > 3 ? atoi(argv[3]) : threads;
    sections = argc > 4 ? atoi(argv[4]) : sections;
    run = (long)getpid();
    pthread_t *thread = calloc((size_t)threads, sizeof *thread);
    int *number = calloc((size_t)threads, sizeof *number);
    int started = 0, failures = !thread || !number;
    for (; !failures && started < threads; started++) {
        number[started] = started;
        if (pthread_create(&thread[started], NULL, work, &number[started]) != 0)
            break;
    }
    for (int i = 0; i < started; i++) {
        void *failed = NULL;
        pthread_join(thread[i], &failed);
        failures += failed != NULL;
    }
    free(thread);
    free(number);

    char *text = read_back();
    int count = text ? count_sections(text) : -1;
    free(text);
    printf("%d threads, %d of %d sections whole\n", threads, count, threads * sections);
    return !failures && count == threads * sections ? EXIT_SUCCESS : EXIT_FAILURE;
}
