/* A client and a server with a protocol of their own, over nothing but udp.h: the server sends
 * every datagram back in upper case, until an empty one comes.
 *
 *   cc udp_echo.c $(pkg-config --cflags --libs baton) -o udp_echo
 *   ./udp_echo [PORT [MESSAGE...]]                    defaults: any free port, three messages
 */
#include <ctype.h>
#include "udp.h"

#define MESSAGE_MAX 1024

static int serve(int sd)
{
    for (;;) {
        struct sockaddr_in client;
        char message[MESSAGE_MAX];
        int length = UDP_Read(sd, &client, message, MESSAGE_MAX);
        if (length <= 0)
            return length == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
        for (int i = 0; i < length; i++)
            message[i] = (char)toupper((unsigned char)message[i]);
        if (UDP_Write(sd, &client, message, length) != length)
            return EXIT_FAILURE;
    }
}

/* Sends one message and waits for the answer; UDP may lose either, so it tries a few times. */
static int ask(int sd, struct sockaddr_in *server, const char *question)
{
    for (int attempt = 0; attempt < 5; attempt++) {
        struct timeval second = {1, 0};
        fd_set readable;
        FD_ZERO(&readable);
        FD_SET(sd, &readable);
        UDP_Write(sd, server, question, (int)strlen(question));
        if (select(sd + 1, &readable, NULL, NULL, &second) == 1) {
            struct sockaddr_in from;
            char answer[MESSAGE_MAX + 1];
            int length = UDP_Read(sd, &from, answer, MESSAGE_MAX);
            answer[length > 0 ? length : 0] = '\0';
            printf("%s -> %s\n", question, answer);
            return strcasecmp(question, answer) == 0 ? 0 : -1;
        }
    }
    fprintf(stderr, "no answer to \"%s\"\n", question);
    return -1;
}

int main(int argc, char *argv[])
{
    char *three[] = {"one", "two", "three"};
    int port = argc > 1 ? atoi(argv[1]) : 0;
    char **messages = argc > 2 ? argv + 2 : three;
    int count = argc > 2 ? argc - 2 : 3;

    int server_sd = UDP_Open(port), client_sd = UDP_Open(0);
    if (server_sd == -1 || client_sd == -1) {
        perror("UDP_Open");
        return EXIT_FAILURE;
    }
    struct sockaddr_in bound, server;
    socklen_t size = sizeof bound;
    getsockname(server_sd, (struct sockaddr *)&bound, &size);
    if (UDP_FillSockAddr(&server, "localhost", ntohs(bound.sin_port)) == -1) {
        perror("UDP_FillSockAddr");
        return EXIT_FAILURE;
    }

    pid_t child = fork();
    if (child == 0)
        _exit(serve(server_sd));
    int failures = child == -1;
    for (int i = 0; i < count && child > 0; i++)
        failures += ask(client_sd, &server, messages[i]) != 0;

    int exit_status = -1;
    UDP_Write(client_sd, &server, "", 0); /* the end */
    waitpid(child, &exit_status, 0);
    UDP_Close(client_sd);
    UDP_Close(server_sd);
    return failures == 0 && exit_status == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
