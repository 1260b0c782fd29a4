/* Datagrams to ADDRESS and PORT, and what comes back: "udptalk MODE ADDRESS PORT WORD..."; modes: connected, free, silent. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    struct sockaddr_in to = {AF_INET, htons(atoi(argv[3])), {inet_addr(argv[2])}}, from;
    socklen_t size = sizeof from;
    char text[70000];
    int s = socket(AF_INET, SOCK_DGRAM, 0), connected = !strcmp(argv[1], "connected"), n;
    setvbuf(stdout, NULL, _IONBF, 0);
    if (connected && connect(s, (void *)&to, sizeof to))
        return printf("connect: %s\n", strerrorname_np(errno)), 1;
    for (int k = 4; k < argc; k++) {
        if ((connected ? send(s, argv[k], strlen(argv[k]), 0) : sendto(s, argv[k], strlen(argv[k]), 0, (void *)&to, sizeof to)) < 0) {
            printf("send: %s\n", strerrorname_np(errno));
            continue;
        }
        if (strcmp(argv[1], "silent")) {
            if ((n = recvfrom(s, text, sizeof text, 0, (void *)&from, &size)) < 0)
                printf("recv: %s\n", strerrorname_np(errno));
            else
                printf("%.*s from %s %d\n", n, text, inet_ntoa(from.sin_addr), ntohs(from.sin_port) == atoi(argv[3]));
        }
    }
    return 0;
}
