/* Multicast between machines: "get GROUP N" receives N datagrams of the group at port 5000, "put GROUP TTL LOOP WORD..." sends some. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    struct sockaddr_in here = {AF_INET, htons(5000), {INADDR_ANY}}, from, to = {AF_INET, htons(5000), {inet_addr(argv[2])}};
    struct ip_mreq group = {to.sin_addr, {INADDR_ANY}};
    socklen_t size = sizeof from;
    char text[100];
    int s = socket(AF_INET, SOCK_DGRAM, 0), n, ttl = argc > 3 ? atoi(argv[3]) : 0, loop = argc > 4 ? atoi(argv[4]) : 0;
    setvbuf(stdout, NULL, _IONBF, 0);
    if (!strcmp(argv[1], "get")) {
        if (bind(s, (void *)&here, sizeof here) || setsockopt(s, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof group))
            return perror("group"), 1;
        printf("joined\n");
        for (int left = atoi(argv[3]); left && (n = recvfrom(s, text, sizeof text, 0, (void *)&from, &size)) >= 0; left--)
            printf("%.*s from %s\n", n, text, inet_ntoa(from.sin_addr));
        return 0;
    }
    setsockopt(s, IPPROTO_IP, IP_MULTICAST_TTL, &ttl, sizeof ttl), setsockopt(s, IPPROTO_IP, IP_MULTICAST_LOOP, &loop, sizeof loop);
    for (n = 5; n < argc; n++)
        if (sendto(s, argv[n], strlen(argv[n]), 0, (void *)&to, sizeof to) < 0)
            return perror("sendto"), 1;
    return 0;
}
