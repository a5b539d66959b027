/* The client of dropin_server.c. */
#include "udp.h"

#define BUFFER_SIZE (1000)

int main(int argc, char *argv[])
{
    struct sockaddr_in addrSnd, addrRcv;
    int sd = UDP_Open(0);
    int rc = UDP_FillSockAddr(&addrSnd, "localhost", argc > 1 ? atoi(argv[1]) : 10000);
    char message[BUFFER_SIZE];
    char *words[] = {"hello world", "bye"};
    for (int i = 0; i < 2; i++) {
        sprintf(message, "%s", words[i]);
        rc = UDP_Write(sd, &addrSnd, message, BUFFER_SIZE);
        if (rc < 0) {
            printf("client:: failed to send\n");
            exit(1);
        }
        rc = UDP_Read(sd, &addrRcv, message, BUFFER_SIZE);
        printf("client:: got reply [size:%d contents:(%s)\n", rc, message);
    }
    return UDP_Close(sd);
}
