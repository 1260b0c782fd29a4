/* Options of sockets: what they are at first, what they take, and how long they are. */
#include "calls.h"
#include "net.h"

static const struct {
    const char *name;
    int level, option, value;
} options[] = {
#define O(level, name, value) {#name, level, name, value}
    O(SOL_SOCKET, SO_DEBUG, -9),      O(SOL_SOCKET, SO_REUSEADDR, 5),   O(SOL_SOCKET, SO_REUSEPORT, 1),
    O(SOL_SOCKET, SO_KEEPALIVE, 7),   O(SOL_SOCKET, SO_BROADCAST, 1),   O(SOL_SOCKET, SO_OOBINLINE, 1),
    O(SOL_SOCKET, SO_DONTROUTE, 1),   O(SOL_SOCKET, SO_PRIORITY, 3),    O(SOL_SOCKET, SO_SNDBUF, 10000),
    O(SOL_SOCKET, SO_RCVBUF, 10000),  O(SOL_SOCKET, SO_RCVLOWAT, 12),   O(SOL_SOCKET, SO_SNDLOWAT, 12),
    O(SOL_SOCKET, SO_TYPE, 1),        O(SOL_SOCKET, SO_DOMAIN, 1),      O(SOL_SOCKET, SO_PROTOCOL, 1),
    O(SOL_SOCKET, SO_ERROR, 1),       O(SOL_SOCKET, SO_ACCEPTCONN, 1),  O(SOL_SOCKET, 999, 1),
    O(IPPROTO_TCP, TCP_NODELAY, 4),   O(IPPROTO_TCP, TCP_CORK, 1),      O(IPPROTO_TCP, TCP_KEEPIDLE, 11),
    O(IPPROTO_TCP, TCP_KEEPINTVL, 12), O(IPPROTO_TCP, TCP_KEEPCNT, 13), O(IPPROTO_TCP, TCP_KEEPIDLE, 0),
    O(IPPROTO_TCP, TCP_KEEPCNT, 200), O(IPPROTO_TCP, TCP_SYNCNT, 3),    O(IPPROTO_TCP, TCP_USER_TIMEOUT, 500),
    O(IPPROTO_TCP, 777, 1),           O(IPPROTO_IP, IP_TTL, 33),        O(IPPROTO_IP, IP_TTL, 300),
    O(IPPROTO_IP, IP_RECVERR, 1),     O(IPPROTO_IP, IP_FREEBIND, 1),    O(IPPROTO_IP, IP_MTU_DISCOVER, 2),
    O(IPPROTO_IP, IP_MTU_DISCOVER, 9), O(IPPROTO_IP, IP_MULTICAST_TTL, 9), O(IPPROTO_IPV6, IPV6_V6ONLY, 1),
    O(IPPROTO_IPV6, IPV6_UNICAST_HOPS, 20), O(4711, 1, 1),
};

static void all(const char *what, int fd, int tcp)
{
    for (unsigned i = 0; i < sizeof options / sizeof *options; i++) {
        char line[100];
        if (options[i].option == SO_RCVBUF && options[i].level == SOL_SOCKET && tcp)
            continue; /* its first value is the host's */
        sprintf(line, "%s %s before", what, options[i].name);
        errno = 0;
        show(line, option(fd, options[i].level, options[i].option));
        sprintf(line, "%s %s set", what, options[i].name);
        errno = 0;
        show(line, set(fd, options[i].level, options[i].option, options[i].value));
        sprintf(line, "%s %s after", what, options[i].name);
        errno = 0;
        show(line, option(fd, options[i].level, options[i].option));
    }
}

static void lengths(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0), value = 1;
    socklen_t size;
    for (size = 0; size < 9; size += 3) {
        R(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, size));
        R(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, size));
        R(setsockopt(fd, IPPROTO_IP, IP_TTL, &value, size));
        socklen_t got = size;
        value = -1;
        R(getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, &got));
        printf("%d of %d: %#x\n", got, size, value);
        got = size, value = -1;
        R(getsockopt(fd, IPPROTO_IP, IP_TTL, &value, &got));
        printf("%d of %d: %#x\n", got, size, value);
        value = 1;
    }
    size = -1;
    R(getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &size));
    size = 4;
    R(getsockopt(fd, SOL_SOCKET, SO_TYPE, (void *)16, &size));
    R(getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, (void *)16));
    R(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, (void *)16, 4));
    R(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, -1));
    R(setsockopt(99, SOL_SOCKET, SO_KEEPALIVE, &value, 4));
    R(setsockopt(1, SOL_SOCKET, SO_KEEPALIVE, &value, 4));
    struct linger l = {1, -1};
    R(setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, 4));
    R(setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 20}, 8));
    size = 8;
    R(getsockopt(fd, SOL_SOCKET, SO_LINGER, &l, &size));
    printf("%d %d\n", l.l_onoff, l.l_linger);
    struct { long long s, us; } t = {2, 5000};
    R(setsockopt(fd, SOL_SOCKET, 66, &t, sizeof t));
    size = sizeof t;
    R(getsockopt(fd, SOL_SOCKET, 67, &t, &size));
    printf("%d: %d %d\n", size, (int)t.s, (int)t.us);
    int small = 1;
    R(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, 4));
    R(option(fd, SOL_SOCKET, SO_SNDBUF));
    R(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, 4));
    R(option(fd, SOL_SOCKET, SO_RCVBUF));
    R(setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &small, 4));
    R(setsockopt(fd, SOL_SOCKET, SO_MARK, &small, 4));
    R(set(fd, SOL_SOCKET, SO_PRIORITY, 7));
    size = sizeof buffer;
    R(getsockopt(fd, SOL_SOCKET, SO_PEERNAME, buffer, &size));
    size = 16;
    R(getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, buffer, &size) + size);
    size = 1000;
    R(getsockopt(fd, IPPROTO_TCP, TCP_INFO, buffer, &size));
    printf("state %d\n", buffer[0]);
    close(fd);
}

int main(void)
{
    begin();
    int fd;
    all("tcp", fd = socket(AF_INET, SOCK_STREAM, 0), 1);
    close(fd);
    all("udp", fd = socket(AF_INET, SOCK_DGRAM, 0), 0);
    close(fd);
    all("tcp6", fd = socket(AF_INET6, SOCK_STREAM, 0), 1);
    close(fd);
    all("unix", fd = socket(AF_UNIX, SOCK_STREAM, 0), 0);
    close(fd);
    lengths();
    return 0;
}
