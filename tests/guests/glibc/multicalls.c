/* Multicast on the loopback interface: who joins, who gets what is sent, which errors there are. */
#include "calls.h"
#include "net.h"
#include <net/if.h>

static struct sockaddr_in at(const char *ip, int port) { return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = inet_addr(ip)}; }

static int bound(const char *ip, int port)
{
    struct sockaddr_in here = at(ip, port);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    R(bind(fd, (void *)&here, sizeof here));
    return fd;
}

static int number(int fd)
{
    struct sockaddr_in here;
    socklen_t size = sizeof here;
    getsockname(fd, (void *)&here, &size);
    return ntohs(here.sin_port);
}

static long membership(int fd, int what, const char *group, const char *address, int interface)
{
    struct ip_mreqn m = {.imr_multiaddr.s_addr = inet_addr(group), .imr_address.s_addr = inet_addr(address), .imr_ifindex = interface};
    return setsockopt(fd, IPPROTO_IP, what, &m, interface ? sizeof m : sizeof(struct ip_mreq));
}
#define JOIN(fd, group, address, interface) R(membership(fd, IP_ADD_MEMBERSHIP, group, address, interface))
#define LEAVE(fd, group, address, interface) R(membership(fd, IP_DROP_MEMBERSHIP, group, address, interface))

static long out(int fd, const char *address, int interface)
{
    struct ip_mreqn m = {.imr_address.s_addr = inet_addr(address), .imr_ifindex = interface};
    return interface ? setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &m, sizeof m) : setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &m.imr_address, 4);
}

static void sends(int fd, const char *text, const char *group, int port)
{
    struct sockaddr_in to = at(group, port);
    long n = (errno = 0, sendto(fd, text, strlen(text), 0, (void *)&to, sizeof to));
    printf("'%s' to %s: %ld %s\n", text, group, n, n < 0 ? strerrorname_np(errno) : "");
}

static void gets(const char *who, int fd)
{
    char text[20] = {0}, name[20];
    struct sockaddr_in from;
    socklen_t size = sizeof from;
    long n;
    printf("%s:", who), usleep(10000);
    while ((n = (errno = 0, recvfrom(fd, text, sizeof text - 1, MSG_DONTWAIT, (void *)&from, &size))) >= 0)
        printf(" '%.*s' from %s", (int)n, text, inet_ntop(AF_INET, &from.sin_addr, name, sizeof name));
    printf(" %s\n", strerrorname_np(errno));
}

static void joins(void)
{
    struct {
        unsigned interface;
        struct sockaddr_storage group;
    } request = {1};
    struct in_addr a = {1};
    socklen_t size = sizeof a;
    int u = socket(AF_INET, SOCK_DGRAM, 0), s = socket(AF_INET, SOCK_STREAM, 0), n;
    struct sockaddr_in group = at("239.1.1.1", 0);
    JOIN(u, "239.1.2.3", "127.0.0.1", 0), JOIN(u, "239.1.2.3", "127.0.0.1", 0), JOIN(u, "239.1.2.3", "0.0.0.0", 1), JOIN(u, "239.1.2.4", "0.0.0.0", 1), JOIN(u, "10.1.2.3", "127.0.0.1", 0), JOIN(u, "239.1.2.3", "1.2.3.4", 0), JOIN(u, "239.1.2.3", "0.0.0.0", 99), JOIN(u, "0.0.0.0", "127.0.0.1", 0), JOIN(u, "240.0.0.1", "127.0.0.1", 0), JOIN(u, "224.0.0.1", "127.0.0.1", 0);
    JOIN(s, "239.1.2.3", "127.0.0.1", 0), LEAVE(s, "239.1.2.3", "127.0.0.1", 0), R(out(s, "127.0.0.1", 0)), R(setsockopt(u, IPPROTO_IP, IP_ADD_MEMBERSHIP, &a, 4)), R(setsockopt(u, IPPROTO_IP, IP_DROP_MEMBERSHIP, &a, 7)), R(setsockopt(u, IPPROTO_IP, IP_ADD_MEMBERSHIP, (void *)8, 8)), R(getsockopt(u, IPPROTO_IP, IP_ADD_MEMBERSHIP, &a, &size));
    LEAVE(u, "239.1.2.9", "127.0.0.1", 0), LEAVE(u, "239.1.2.3", "127.0.0.2", 0), LEAVE(u, "239.1.2.3", "9.9.9.9", 0), LEAVE(u, "239.1.2.4", "0.0.0.0", 99), LEAVE(u, "239.1.2.3", "127.0.0.1", 0), LEAVE(u, "239.1.2.3", "127.0.0.1", 0), LEAVE(u, "239.1.2.4", "127.0.0.1", 0);
    for (n = 1; n < 25; n++) {
        char name[20];
        sprintf(name, "239.9.9.%d", n);
        if (membership(u, IP_ADD_MEMBERSHIP, name, "127.0.0.1", 0))
            break;
    }
    R(n), R(errno == ENOBUFS), close(u), u = socket(AF_INET, SOCK_DGRAM, 0);
    memcpy(&request.group, &group, sizeof group), R(sizeof request), R(setsockopt(u, IPPROTO_IP, MCAST_JOIN_GROUP, &request, sizeof request)), R(setsockopt(u, IPPROTO_IP, MCAST_JOIN_GROUP, &request, sizeof request)), R(setsockopt(u, IPPROTO_IP, MCAST_LEAVE_GROUP, &request, sizeof request - 1)), R(setsockopt(u, IPPROTO_IP, MCAST_LEAVE_GROUP, &request, sizeof request)), request.group.ss_family = AF_INET6, R(setsockopt(u, IPPROTO_IP, MCAST_JOIN_GROUP, &request, sizeof request)), R(setsockopt(s, IPPROTO_IP, MCAST_JOIN_GROUP, &request, sizeof request));
    R(option(u, IPPROTO_IP, IP_MULTICAST_ALL)), R(set(u, IPPROTO_IP, IP_MULTICAST_ALL, 2)), R(set(u, IPPROTO_IP, IP_MULTICAST_ALL, 0)), R(option(u, IPPROTO_IP, IP_MULTICAST_ALL)), R(option(u, IPPROTO_IP, IP_MULTICAST_LOOP)), R(set(u, IPPROTO_IP, IP_MULTICAST_LOOP, 5)), R(option(u, IPPROTO_IP, IP_MULTICAST_LOOP)), R(setsockopt(u, IPPROTO_IP, IP_MULTICAST_LOOP, "", 1)), R(option(u, IPPROTO_IP, IP_MULTICAST_LOOP));
    R(option(u, IPPROTO_IP, IP_MULTICAST_TTL)), R(set(u, IPPROTO_IP, IP_MULTICAST_TTL, 300)), R(set(u, IPPROTO_IP, IP_MULTICAST_TTL, 7)), R(set(u, IPPROTO_IP, IP_MULTICAST_TTL, -1)), R(option(u, IPPROTO_IP, IP_MULTICAST_TTL)), R(set(s, IPPROTO_IP, IP_MULTICAST_TTL, 3)), R(set(s, IPPROTO_IP, IP_MULTICAST_LOOP, 0));
    R(getsockopt(u, IPPROTO_IP, IP_MULTICAST_IF, &a, &size)), R(a.s_addr), R(out(u, "127.0.0.1", 0)), R(getsockopt(u, IPPROTO_IP, IP_MULTICAST_IF, &a, &size)), R(a.s_addr), R(size), R(out(u, "9.9.9.9", 0)), R(out(u, "0.0.0.0", 1)), R(getsockopt(u, IPPROTO_IP, IP_MULTICAST_IF, &a, &size)), R(a.s_addr), R(out(u, "0.0.0.0", 99)), R(out(u, "0.0.0.0", 0)), R(setsockopt(u, IPPROTO_IP, IP_MULTICAST_IF, &a, 3));
    close(u), close(s);
}

static void deliveries(void)
{
    int one = bound("0.0.0.0", 0), port = number(one), two = bound("0.0.0.0", port), group = bound("239.5.5.5", port), local = bound("127.0.0.1", port), connected = bound("0.0.0.0", port), u = bound("127.0.0.1", 0), n;
    struct sockaddr_in peer = at("127.0.0.1", number(u)), other = at("127.0.0.1", 9);
    struct sockaddr_in here;
    socklen_t size = sizeof here;
    R(connect(connected, (void *)&peer, sizeof peer)), R(out(u, "127.0.0.1", 0)), sends(u, "nobody", "239.5.5.5", port), gets("one", one), gets("two", two), gets("group", group);
    JOIN(one, "239.5.5.5", "127.0.0.1", 0), sends(u, "first", "239.5.5.5", port), sends(u, "elsewhere", "239.5.5.6", port), sends(u, "other port", "239.5.5.5", port == 60999 ? 32768 : port + 1), gets("one", one), gets("two", two), gets("group", group), gets("local", local), gets("connected", connected), gets("sender", u);
    R(set(two, IPPROTO_IP, IP_MULTICAST_ALL, 0)), R(connect(connected, (void *)&other, sizeof other)), sends(u, "second", "239.5.5.5", port), gets("one", one), gets("two", two), gets("group", group), gets("connected", connected);
    JOIN(two, "239.5.5.5", "0.0.0.0", 1), R(set(u, IPPROTO_IP, IP_MULTICAST_LOOP, 0)), R(set(u, IPPROTO_IP, IP_MULTICAST_TTL, 0)), sends(u, "third", "239.5.5.5", port), gets("one", one), gets("two", two);
    LEAVE(one, "239.5.5.5", "127.0.0.1", 0), sends(u, "fourth", "239.5.5.5", port), gets("one", one), gets("two", two), close(two), sends(u, "fifth", "239.5.5.5", port), gets("one", one), gets("group", group);
    sends(u, "all", "224.0.0.1", port), gets("one", one), sends(u, "none", "224.0.0.2", port), gets("one", one);
    R(getsockname(group, (void *)&here, &size)), R(here.sin_addr.s_addr == inet_addr("239.5.5.5")), JOIN(group, "239.5.5.5", "127.0.0.1", 0), sends(u, "sixth", "239.5.5.5", port), gets("group", group), R(set(group, IPPROTO_IP, IP_PKTINFO, 1)), R(set(group, IPPROTO_IP, IP_RECVTTL, 1)), R(set(u, IPPROTO_IP, IP_MULTICAST_TTL, 9)), sends(u, "told", "239.5.5.5", port);
    char control[200], text[20], name[2][20];
    struct iovec in = {text, sizeof text};
    struct msghdr m = {.msg_iov = &in, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    R(recvmsg(group, &m, 0));
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
        if (c->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo *p = (void *)CMSG_DATA(c);
            printf("interface %d, %s, to %s\n", p->ipi_ifindex, inet_ntop(AF_INET, &p->ipi_spec_dst, name[0], 20), inet_ntop(AF_INET, &p->ipi_addr, name[1], 20));
        } else
            printf("%d: %d\n", c->cmsg_type, *(int *)CMSG_DATA(c));
    R(out(group, "127.0.0.1", 0)), sends(group, "itself", "239.5.5.5", port), gets("group", group), gets("one", one);
    peer = at("239.5.5.5", port), R(connect(u, (void *)&peer, sizeof peer)), R(send(u, "sent", 4, 0)), gets("group", group), R(getpeername(u, (void *)&here, &size)), R(send(u, "", 0, 0)), n = -1, R(ioctl(group, FIONREAD, &n)), R(n), gets("group", group);
    close(one), close(group), close(local), close(connected), R(send(u, "gone", 4, 0)), R(send(u, "gone", 4, 0)), gets("sender", u), close(u);
}

int main(void)
{
    begin(), joins(), deliveries();
    return 0;
}
