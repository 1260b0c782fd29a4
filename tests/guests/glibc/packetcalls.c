/* What goes along with datagrams: IP_PKTINFO, IPV6_PKTINFO (RFC 3542), TTL and hop limit, TOS and traffic class. */
#include "calls.h"
#include "net.h"

static union {
    char bytes[256];
    struct cmsghdr align;
} control;
static struct sockaddr_in6 from;
static int fd, six, port;

static void *v4(const char *ip)
{
    static struct sockaddr_in in;
    in = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, ip, &in.sin_addr);
    return &in;
}

static void *v6(const char *ip)
{
    static struct sockaddr_in6 in6;
    in6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(port)};
    inet_pton(AF_INET6, ip, &in6.sin6_addr);
    return &in6;
}

static const char *text_of(int family, const void *ip)
{
    static char text[2][64];
    static int n;
    n = !n;
    return inet_ntop(family, ip, text[n], sizeof text[n]) ?: "?";
}

/* Receive what is there, and tell what came along. */
static void get(int s, int room)
{
    struct iovec part = {buffer, 100};
    memset(&control, 0, sizeof control);
    struct msghdr m = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &part, .msg_iovlen = 1,
                       .msg_control = &control, .msg_controllen = room};
    R(recvmsg(s, &m, MSG_DONTWAIT));
    printf("flags %#x control %d from %s\n", m.msg_flags, (int)m.msg_controllen,
           m.msg_namelen == 16 ? text_of(AF_INET, &((struct sockaddr_in *)&from)->sin_addr)
                               : text_of(AF_INET6, &from.sin6_addr));
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
        void *data = CMSG_DATA(c);
        printf("  len %d level %d type %d: ", (int)c->cmsg_len, c->cmsg_level, c->cmsg_type);
        if (c->cmsg_level == SOL_IP && c->cmsg_type == IP_PKTINFO && c->cmsg_len == CMSG_LEN(12)) {
            struct in_pktinfo *p = data;
            printf("%d %s %s\n", p->ipi_ifindex, text_of(AF_INET, &p->ipi_spec_dst), text_of(AF_INET, &p->ipi_addr));
        } else if (c->cmsg_level == SOL_IPV6 && c->cmsg_type == IPV6_PKTINFO && c->cmsg_len == CMSG_LEN(20)) {
            struct in6_pktinfo *p = data;
            printf("%d %s\n", p->ipi6_ifindex, text_of(AF_INET6, &p->ipi6_addr));
        } else
            printf("%d\n", c->cmsg_len == CMSG_LEN(1) ? *(unsigned char *)data : *(int *)data);
    }
}

/* Send a datagram with one control message. */
static void give(int s, void *to, int level, int type, const void *data, int size)
{
    struct iovec part = {"data", 4};
    memset(&control, 0, sizeof control);
    struct msghdr m = {.msg_name = to, .msg_namelen = *(short *)to == AF_INET ? 16 : 28, .msg_iov = &part,
                       .msg_iovlen = 1, .msg_control = &control, .msg_controllen = CMSG_SPACE(size)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    *c = (struct cmsghdr){.cmsg_len = CMSG_LEN(size), .cmsg_level = level, .cmsg_type = type};
    memcpy(CMSG_DATA(c), data, size);
    errno = 0;
    int sent = sendmsg(s, &m, 0);
    printf("send with %d/%d of %d bytes, %d: ", level, type, size, *(int *)data);
    show("", sent);
}

static void give_int(int s, void *to, int level, int type, int value) { give(s, to, level, type, &value, 4); }

static void four(void)
{
    socklen_t size = sizeof from;
    fd = socket(AF_INET, SOCK_DGRAM, 0);
    bind(fd, v4("0.0.0.0"), 16);
    getsockname(fd, (void *)&from, &size);
    port = ntohs(from.sin6_port);
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    R(option(fd, SOL_IP, IP_PKTINFO));
    R(set(fd, SOL_IP, IP_PKTINFO, 5));
    R(option(fd, SOL_IP, IP_PKTINFO));
    R(sendto(s, "one", 3, 0, v4("127.0.0.1"), 16));
    get(fd, sizeof control);
    R(sendto(s, "two", 3, 0, v4("127.3.2.1"), 16));
    R(set(fd, SOL_IP, IP_RECVTTL, 1));
    R(set(fd, SOL_IP, IP_RECVTOS, 1));
    get(fd, sizeof control);
    R(set(s, SOL_IP, IP_TTL, 7));
    R(set(s, SOL_IP, IP_TOS, 16));
    for (int room = 0; room < 60; room += 7) {
        sendto(s, "room", 4, 0, v4("127.0.0.1"), 16);
        get(fd, room);
    }
    struct in_pktinfo info = {0};
    give(s, v4("127.0.0.1"), SOL_IP, IP_PKTINFO, &info, sizeof info);
    get(fd, 100);
    info.ipi_ifindex = 1;
    inet_aton("127.0.0.9", &info.ipi_spec_dst);
    give(s, v4("127.0.0.1"), SOL_IP, IP_PKTINFO, &info, sizeof info);
    get(fd, 100);
    inet_aton("9.9.9.9", &info.ipi_spec_dst);
    give(s, v4("127.0.0.1"), SOL_IP, IP_PKTINFO, &info, sizeof info);
    info = (struct in_pktinfo){.ipi_ifindex = 1000};
    give(s, v4("127.0.0.1"), SOL_IP, IP_PKTINFO, &info, sizeof info);
    give(s, v4("127.0.0.1"), SOL_IP, IP_PKTINFO, &info, 8);
    for (int ttl = -1; ttl < 300; ttl += 50)
        give_int(s, v4("127.0.0.1"), SOL_IP, IP_TTL, ttl);
    give_int(s, v4("127.0.0.1"), SOL_IP, IP_TOS, 8);
    give_int(s, v4("127.0.0.1"), SOL_IP, IP_TOS, 256);
    give(s, v4("127.0.0.1"), SOL_IP, IP_TOS, "\4\0\0", 1);
    give(s, v4("127.0.0.1"), SOL_IP, IP_TTL, "\4\0\0", 1);
    give_int(s, v4("127.0.0.1"), SOL_IP, 99, 8);
    give_int(s, v4("127.0.0.1"), 99, 99, 8);
    give_int(s, v4("127.0.0.1"), SOL_IPV6, IPV6_HOPLIMIT, 8);
    for (int i = 0; i < 10; i++)
        get(fd, 100);
    R(recv(fd, buffer, 10, MSG_DONTWAIT));
    close(s);
    close(fd);
}

static void both(void)
{
    socklen_t size = sizeof from;
    port = 0;
    six = socket(AF_INET6, SOCK_DGRAM, 0);
    bind(six, v6("::"), 28);
    getsockname(six, (void *)&from, &size);
    port = ntohs(from.sin6_port);
    int s = socket(AF_INET6, SOCK_DGRAM, 0), old = socket(AF_INET, SOCK_DGRAM, 0);
    R(option(six, SOL_IPV6, IPV6_RECVPKTINFO));
    R(set(six, SOL_IPV6, IPV6_RECVPKTINFO, 1));
    R(option(six, SOL_IPV6, IPV6_RECVPKTINFO));
    R(set(six, SOL_IPV6, IPV6_RECVHOPLIMIT, 1));
    R(set(six, SOL_IPV6, IPV6_RECVTCLASS, 1));
    R(option(six, SOL_IPV6, IPV6_RECVHOPLIMIT));
    R(option(six, SOL_IPV6, IPV6_RECVTCLASS));
    R(sendto(s, "one", 3, 0, v6("::1"), 28));
    get(six, 200);
    R(sendto(old, "old", 3, 0, v4("127.0.0.1"), 16));
    get(six, 200);
    R(set(six, SOL_IP, IP_PKTINFO, 1));
    R(set(six, SOL_IP, IP_RECVTTL, 1));
    R(sendto(s, "old", 3, 0, v6("::ffff:127.0.0.1"), 28));
    get(six, 200);
    R(set(s, SOL_IPV6, IPV6_UNICAST_HOPS, 9));
    R(set(s, SOL_IPV6, IPV6_TCLASS, 33));
    R(sendto(s, "two", 3, 0, v6("::1"), 28));
    get(six, 200);
    R(set(s, SOL_IPV6, IPV6_UNICAST_HOPS, -1));
    R(set(s, SOL_IPV6, IPV6_TCLASS, -1));
    for (int value = -2; value < 300; value += 64) {
        give_int(s, v6("::1"), SOL_IPV6, IPV6_HOPLIMIT, value);
        give_int(s, v6("::1"), SOL_IPV6, IPV6_TCLASS, value);
    }
    struct in6_pktinfo info = {.ipi6_ifindex = 1};
    give(s, v6("::1"), SOL_IPV6, IPV6_PKTINFO, &info, sizeof info);
    info.ipi6_addr = in6addr_loopback;
    give(s, v6("::1"), SOL_IPV6, IPV6_PKTINFO, &info, sizeof info);
    info.ipi6_ifindex = 1000;
    give(s, v6("::1"), SOL_IPV6, IPV6_PKTINFO, &info, sizeof info);
    info.ipi6_ifindex = 0;
    info.ipi6_addr.s6_addr[0] = 0x20;
    give(s, v6("::1"), SOL_IPV6, IPV6_PKTINFO, &info, sizeof info);
    give(s, v6("::1"), SOL_IPV6, IPV6_PKTINFO, &info, 8);
    for (int i = 0; i < 12; i++)
        get(six, 200);
    close(s);
    close(old);
    close(six);
}

int main(void)
{
    begin();
    four();
    both();
    return 0;
}
