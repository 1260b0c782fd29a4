/* Calls of sockets whose arguments strace shows in forms of its own: addresses, messages, options. Errors too. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

static struct sockaddr_in in;
static struct sockaddr_in6 in6;
static struct sockaddr_un un;
static struct sockaddr_storage got;
static socklen_t size;

static void *v4(const char *ip, int port)
{
    in = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, ip, &in.sin_addr);
    return &in;
}

static void *v6(const char *ip, int port)
{
    in6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_flowinfo = htonl(7)};
    inet_pton(AF_INET6, ip, &in6.sin6_addr);
    return &in6;
}

static void addresses(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_IP), six = socket(AF_INET6, SOCK_DGRAM, IPPROTO_UDP);
    bind(fd, v4("127.0.0.1", 28080), sizeof in);
    listen(fd, 5);
    size = sizeof got;
    getsockname(fd, (void *)&got, &size);
    size = 4;
    getsockname(fd, (void *)&got, &size);
    size = 2;
    getsockname(fd, (void *)&got, &size);
    size = 1;
    getsockname(fd, (void *)&got, &size);
    size = sizeof got;
    getpeername(fd, (void *)&got, &size);
    getsockname(fd, (void *)8, &size);
    getsockname(fd, (void *)&got, NULL);
    bind(six, v6("::1", 28081), sizeof in6);
    size = sizeof got;
    getsockname(six, (void *)&got, &size);
    in6.sin6_scope_id = 1;
    connect(six, (void *)&in6, 10);
    connect(six, (void *)&in6, 24);
    connect(six, (void *)8, 28);
    connect(six, NULL, 0);
    connect(six, (void *)&in6, -1);
    connect(six, (void *)&in6, 1);
    int client = socket(AF_INET, SOCK_STREAM, IPPROTO_TCP);
    bind(client, v4("127.0.0.1", 28082), sizeof in);
    connect(client, v4("127.0.0.1", 28080), sizeof in);
    size = sizeof got;
    int server = accept(fd, (void *)&got, &size);
    send(client, "hello", 5, MSG_NOSIGNAL);
    recv(server, &got, sizeof got, MSG_DONTWAIT);
    recv(server, &got, sizeof got, MSG_DONTWAIT);
    size = sizeof got;
    getpeername(server, (void *)&got, &size);
    connect(client, &(struct sockaddr){.sa_family = AF_UNSPEC, .sa_data = "abc"}, 16);
    connect(client, &(struct sockaddr){.sa_family = 77, .sa_data = "abc"}, 6);
    shutdown(server, SHUT_RD);
    shutdown(server, SHUT_RDWR);
    shutdown(server, 7);
    close(server);
    close(client);
    client = socket(AF_INET, SOCK_STREAM, IPPROTO_TCP);
    connect(client, v4("127.0.0.1", 28080), sizeof in);
    server = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    close(server);
    close(client);
    close(six);
    close(fd);
}

static void unix_addresses(void)
{
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0), other = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0);
    un.sun_family = AF_UNIX;
    size = sizeof got;
    getsockname(fd, (void *)&got, &size);
    strcpy(un.sun_path, "/nowhere/at all");
    bind(fd, (void *)&un, sizeof un);
    memcpy(un.sun_path, "\0hidden\1", 9);
    bind(fd, (void *)&un, offsetof(struct sockaddr_un, sun_path) + 8);
    size = sizeof got;
    getsockname(fd, (void *)&got, &size);
    connect(other, (void *)&un, offsetof(struct sockaddr_un, sun_path) + 8);
    sendto(fd, "x", 1, 0, (void *)&un, offsetof(struct sockaddr_un, sun_path) + 8);
    size = sizeof got;
    recvfrom(fd, &in6, sizeof in6, 0, (void *)&got, &size);
    close(fd);
    close(other);
    fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    struct sockaddr_nl nl = {.nl_family = AF_NETLINK};
    bind(fd, (void *)&nl, sizeof nl);
    bind(fd, (void *)&nl, 8);
    close(fd);
    int sv[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, sv);
    close(sv[0]);
    close(sv[1]);
}

static void messages(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    char one[8] = "one", two[40] = "two", control[64];
    struct iovec parts[2] = {{one, 3}, {two, sizeof two}};
    bind(fd, v4("127.0.0.1", 28083), sizeof in);
    sendto(fd, "datagram", 8, 0, (void *)&in, sizeof in);
    size = sizeof got;
    recvfrom(fd, two, sizeof two, 0, (void *)&got, &size);
    size = 5;
    sendto(fd, "datagram", 8, MSG_DONTWAIT, (void *)&in, sizeof in);
    recvfrom(fd, two, 4, MSG_TRUNC, (void *)&got, &size);
    recvfrom(fd, two, 4, MSG_DONTWAIT, (void *)&got, &size);
    struct msghdr m = {.msg_name = &in, .msg_namelen = sizeof in, .msg_iov = parts, .msg_iovlen = 2};
    sendmsg(fd, &m, MSG_NOSIGNAL);
    sendmsg(fd, &m, 0);
    m.msg_name = &got;
    m.msg_namelen = sizeof got;
    recvmsg(fd, &m, 0);
    m.msg_namelen = sizeof got;
    m.msg_iovlen = 1;
    recvmsg(fd, &m, 0);
    recvmsg(fd, &m, MSG_DONTWAIT);
    recvmsg(fd, (void *)8, 0);
    recvmsg(fd, NULL, 0);
    close(fd);
    int sv[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, sv);
    m = (struct msghdr){.msg_iov = parts, .msg_iovlen = 1, .msg_control = control};
    struct cmsghdr *c = (void *)control;
    *c = (struct cmsghdr){.cmsg_len = CMSG_LEN(2 * sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(c), (int[]){0, 1}, 8);
    m.msg_controllen = CMSG_SPACE(8);
    sendmsg(sv[0], &m, 0);
    m.msg_controllen = sizeof control;
    recvmsg(sv[1], &m, MSG_CMSG_CLOEXEC);
    int on = 1;
    setsockopt(sv[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
    m.msg_control = NULL;
    m.msg_controllen = 0;
    sendmsg(sv[0], &m, 0);
    m.msg_control = control;
    m.msg_controllen = sizeof control;
    recvmsg(sv[1], &m, 0);
    close(sv[0]);
    close(sv[1]);
}

static void options(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0), value = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &value, sizeof value);
    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &value, sizeof value);
    setsockopt(fd, SOL_TCP, TCP_NODELAY, &value, sizeof value);
    setsockopt(fd, SOL_IP, IP_TOS, &value, sizeof value);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, 2);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, (void *)8, 4);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, NULL, 0);
    setsockopt(fd, SOL_SOCKET, 999, &value, sizeof value);
    struct linger l = {1, 5};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
    struct timeval tv = {1, 500};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO_OLD, &tv, sizeof tv);
    size = sizeof value;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &value, &size);
    getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &size);
    getsockopt(fd, SOL_TCP, TCP_KEEPCNT, &value, &size);
    getsockopt(fd, SOL_SOCKET, 999, &value, &size);
    size = sizeof l;
    getsockopt(fd, SOL_SOCKET, SO_LINGER, &l, &size);
    size = 2;
    getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &size);
    close(fd);
}

int main(void)
{
    addresses();
    unix_addresses();
    messages();
    options();
    return 0;
}
