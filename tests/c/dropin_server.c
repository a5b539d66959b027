/* A server as students write it with udp.h alone: a protocol of its own, one answer a message. */
#include "udp.h"

#define BUFFER_SIZE (1000)

int main(int argc, char *argv[])
{
    int sd = UDP_Open(argc > 1 ? atoi(argv[1]) : 10000);
    assert(sd > -1);
    struct sockaddr_in own;
    socklen_t size = sizeof(own);
    getsockname(sd, (struct sockaddr *) &own, &size);
    printf("%d\n", ntohs(own.sin_port));
    fflush(stdout);
    while (1) {
        struct sockaddr_in addr;
        char message[BUFFER_SIZE];
        int rc = UDP_Read(sd, &addr, message, BUFFER_SIZE);
        if (rc > 0) {
            char reply[BUFFER_SIZE];
            int last = strcmp(message, "bye") == 0;
            sprintf(reply, "goodbye %d", rc);
            rc = UDP_Write(sd, &addr, reply, BUFFER_SIZE);
            if (last)
                return UDP_Close(sd);
        }
    }
}
