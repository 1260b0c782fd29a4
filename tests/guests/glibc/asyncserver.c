/* A server that waits for signals alone (O_ASYNC): one connection to port 8080, whose bytes it sends back. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    struct sockaddr_in here = {AF_INET, htons(8080), {INADDR_ANY}};
    int l = socket(AF_INET, SOCK_STREAM, 0), c = -1, n;
    char data[100];
    siginfo_t info;
    sigset_t set;
    sigemptyset(&set), sigaddset(&set, SIGRTMIN), sigprocmask(SIG_BLOCK, &set, NULL);
    fcntl(l, F_SETSIG, SIGRTMIN), fcntl(l, F_SETFL, O_ASYNC | O_NONBLOCK);
    if (argc < 2)
        fcntl(l, F_SETOWN, getpid());
    if (bind(l, (void *)&here, sizeof here) || listen(l, 1)) /* who comes from now on is told of */
        return 1;
    while (sigwaitinfo(&set, &info) == SIGRTMIN) {
        if (info.si_fd == l && c < 0 && (c = accept(l, NULL, NULL)) >= 0)
            fcntl(c, F_SETSIG, SIGRTMIN), fcntl(c, F_SETOWN, getpid()), fcntl(c, F_SETFL, O_ASYNC | O_NONBLOCK);
        while (c >= 0 && (n = read(c, data, sizeof data)) >= 0)
            if (!n || write(c, data, n) != n)
                return n != 0;
    }
    return 2;
}
