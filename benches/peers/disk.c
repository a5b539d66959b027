/* A write of 100 bytes and fdatasync, into space allocated beforehand, in the directory --path. */
#define _GNU_SOURCE
#include "load.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FILE_SIZE (16l << 20)
#define RECORD 100

void peer_open(struct load_client *client) {
    char path[4096];
    int *fd = load_memory(sizeof *fd);
    snprintf(path, sizeof path, "%s/disk-%d", client->options->path, client->number);
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (*fd < 0 || posix_fallocate(*fd, 0, FILE_SIZE) != 0 || fsync(*fd) != 0) {
        load_fail(path, strerror(errno));
    }
    client->state = fd;
}

void peer_cycle(struct load_client *client) {
    int *fd = client->state;
    char record[RECORD] = "x";
    long at = (long)client->cycles * RECORD % (FILE_SIZE - RECORD);
    if (pwrite(*fd, record, sizeof record, at) != RECORD || fdatasync(*fd) != 0) {
        load_fail("write", strerror(errno));
    }
}

void peer_close(struct load_client *client) {
    close(*(int *)client->state);
}
