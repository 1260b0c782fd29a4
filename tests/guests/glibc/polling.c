/* poll and select over pipes: nothing ready, data, end, timeout; SIGPIPE ignored and EPIPE. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/select.h>
#include <time.h>
#include <unistd.h>

int main(void) {
    int p[2];
    char c;
    struct timespec before, after;
    if (pipe(p)) return 1;
    struct pollfd fds[2] = {{p[0], POLLIN, 0}, {p[1], POLLOUT, 0}};
    printf("%d ", poll(fds, 2, 0)), printf("%x %x\n", fds[0].revents, fds[1].revents);
    printf("%d\n", poll(fds, 1, 20));
    if (write(p[1], "x", 1) != 1) return 1;
    printf("%d ", poll(fds, 2, -1)), printf("%x %x\n", fds[0].revents, fds[1].revents);
    fd_set readable;
    struct timeval limit = {0, 10000};
    FD_ZERO(&readable);
    FD_SET(p[0], &readable);
    printf("%d %d\n", select(p[0] + 1, &readable, NULL, NULL, &limit), FD_ISSET(p[0], &readable));
    fcntl(p[0], F_SETFL, O_NONBLOCK);
    if (read(p[0], &c, 1) != 1) return 1;
    ssize_t n = read(p[0], &c, 1);
    printf("%zd %s\n", n, strerror(errno));
    close(p[1]);
    printf("%d ", poll(fds, 1, -1)), printf("%x\n", fds[0].revents);
    printf("%zd\n", read(p[0], &c, 1));
    signal(SIGPIPE, SIG_IGN);
    if (pipe(p)) return 1;
    close(p[0]);
    n = write(p[1], "x", 1);
    printf("%zd %s\n", n, strerror(errno));
    struct timespec pause = {0, 30000000};
    clock_gettime(CLOCK_MONOTONIC, &before), nanosleep(&pause, NULL), clock_gettime(CLOCK_MONOTONIC, &after);
    long long slept = (after.tv_sec - before.tv_sec) * 1000000000ll + after.tv_nsec - before.tv_nsec;
    printf("slept %s\n", slept >= 30000000 ? "long enough" : "too short");
    return 0;
}
