/* Five functions around a UDP socket. Part of Baton; see docs/C_API.md.
   Generated from the Rust sources: change those, then `make fix`. */

#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE 1
#endif

#ifndef BATON_UDP_H
#define BATON_UDP_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <errno.h>
#include <string.h>
#include <strings.h>
#include <netdb.h>
#include <fcntl.h>
#include <assert.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/stat.h>
#include <sys/select.h>
#include <netinet/tcp.h>
#include <netinet/in.h>
#include <arpa/inet.h>

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Opens a UDP socket that receives on `port` of every address of this machine.
 *
 * Parameters: `port`: 0 to 65535; 0 lets the system choose.
 *
 * Blocks: never.
 *
 * Returns: the descriptor, 0 or more; -1 on failure, with `errno` set: `EINVAL` (no such port),
 * `EADDRINUSE` (taken), `EACCES`, `EMFILE` and the others of socket(2) and bind(2). (The book's
 * version returns 0 when there is no socket to be had, which is a valid descriptor; this one
 * does not.)
 *
 * Threads: any. A forked child shares the socket, and it stays open on `exec`.
 *
 * Since: 0.1.0.
 *
 * Example:
 * ```c
 * int sd = UDP_Open(10000);
 * assert(sd > -1);
 * ```
 *
 * # Safety
 * None: it takes no pointer.
 */
int UDP_Open(int port);

/**
 * Closes a socket.
 *
 * Parameters: `fd`: what `UDP_Open` returned.
 *
 * Blocks: never.
 *
 * Returns: 0; -1 on failure, with `errno` set as by close(2).
 *
 * Threads: any.
 *
 * Since: 0.1.0.
 *
 * Example:
 * ```c
 * UDP_Close(sd);
 * ```
 *
 * # Safety
 * `fd` must not be a descriptor that other code relies on.
 */
int UDP_Close(int fd);

/**
 * Waits for a datagram and says who sent it.
 *
 * Parameters:
 * - `fd`: what `UDP_Open` returned.
 * - `addr` (out, not null): the sender.
 * - `buffer` (out, not null): the datagram's bytes; no NUL is added.
 * - `n`: room there in bytes, 0 or more. What does not fit is lost.
 *
 * Blocks: until a datagram comes, for ever if none does.
 *
 * Returns: the number of bytes, 0 for an empty datagram; -1 on failure, with `errno` set:
 * `EINVAL` (null pointer, negative `n`), `EINTR` (a signal) and the others of recvfrom(2).
 *
 * Threads: any; each datagram goes to one of those that wait.
 *
 * Since: 0.1.0.
 *
 * Example:
 * ```c
 * char message[BUFFER_SIZE];
 * struct sockaddr_in from;
 * int rc = UDP_Read(sd, &from, message, BUFFER_SIZE);
 * ```
 *
 * # Safety
 * `addr` must be null or point to a writable `struct sockaddr_in`, `buffer` null or to `n`
 * writable bytes.
 */
int UDP_Read(int fd, struct sockaddr_in *addr, void *buffer, int n);

/**
 * Sends a datagram.
 *
 * Parameters:
 * - `fd`: what `UDP_Open` returned.
 * - `addr` (in, not null): the receiver.
 * - `buffer` (in, not null): the bytes.
 * - `n`: how many, 0 to 65507.
 *
 * Blocks: hardly ever: when the socket's send buffer is full.
 *
 * Returns: the number of bytes sent, which says nothing of their arrival; -1 on failure, with
 * `errno` set: `EINVAL` (null pointer, negative `n`), `EMSGSIZE` (too long) and the others of
 * sendto(2).
 *
 * Threads: any.
 *
 * Since: 0.1.0.
 *
 * Example:
 * ```c
 * int rc = UDP_Write(sd, &to, message, BUFFER_SIZE);
 * ```
 *
 * # Safety
 * `addr` must be null or point to a `struct sockaddr_in`, `buffer` null or to `n` bytes.
 */
int UDP_Write(int fd, const struct sockaddr_in *addr, const void *buffer, int n);

/**
 * Fills an address from a host name and a port.
 *
 * Parameters:
 * - `addr` (out, not null): the address; zeroed first, also when the call fails.
 * - `hostname` (in, NUL-terminated): a host name or an IPv4 address. Null: `addr` is only zeroed.
 * - `port`: 0 to 65535.
 *
 * Blocks: as long as the resolver takes.
 *
 * Returns: 0; -1 on failure, with `errno` set: `EINVAL` (`addr` is null, no such port),
 * `EHOSTUNREACH` (the name has no IPv4 address).
 *
 * Threads: any.
 *
 * Since: 0.1.0.
 *
 * Example:
 * ```c
 * struct sockaddr_in to;
 * int rc = UDP_FillSockAddr(&to, "localhost", 10000);
 * ```
 *
 * # Safety
 * `addr` must be null or point to a writable `struct sockaddr_in`, `hostname` must be null or
 * NUL-terminated.
 */
int UDP_FillSockAddr(struct sockaddr_in *addr,
                     const char *hostname,
                     int port);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* BATON_UDP_H */
