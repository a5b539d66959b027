/* The spin lock of the server, among the threads of one program: they count together, and no
 * count is lost.
 *
 *   cc spin.c $(pkg-config --cflags --libs baton) -pthread -o spin
 *   ./spin [THREADS [ROUNDS]]                                            defaults: 4 100000
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include "spinlock.h"

static spinlock_t lock;
static long counter; /* protected by the lock */
static long rounds = 100000;

static void *count(void *unused)
{
    for (long i = 0; i < rounds; i++) {
        spinlock_acquire(&lock);
        counter++; /* not atomic: two threads in here at once would lose counts */
        spinlock_release(&lock);
    }
    return unused;
}

int main(int argc, char *argv[])
{
    int threads = argc > 1 ? atoi(argv[1]) : 4;
    rounds = argc > 2 ? atol(argv[2]) : rounds;
    if (threads < 1 || rounds < 0) {
        fprintf(stderr, "usage: %s [THREADS [ROUNDS]]\n", argv[0]);
        return EXIT_FAILURE;
    }

    spinlock_init(&lock);
    pthread_t *thread = calloc((size_t)threads, sizeof *thread);
    int started = 0;
    while (thread && started < threads && !pthread_create(&thread[started], NULL, count, NULL))
        started++;
    for (int i = 0; i < started; i++)
        pthread_join(thread[i], NULL);
    free(thread);

    printf("%d threads counted to %ld of %ld\n", started, counter, threads * rounds);
    return counter == threads * rounds ? EXIT_SUCCESS : EXIT_FAILURE;
}
