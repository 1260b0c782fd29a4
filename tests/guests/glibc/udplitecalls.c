/* UDP-Lite: sockets, ports of its own, and checksums that cover a part. */
#include "calls.h"
#include "net.h"

#define LITE 136
#define SEND_COVERAGE 10
#define RECV_COVERAGE 11

static struct sockaddr_storage here;
static socklen_t size;

static int bound(int family, int protocol, int port)
{
    int fd = socket(family, SOCK_DGRAM, protocol);
    struct sockaddr_in four = {AF_INET, port, {htonl(INADDR_LOOPBACK)}};
    struct sockaddr_in6 six = {AF_INET6, port, 0, IN6ADDR_LOOPBACK_INIT, 0};
    R(family == AF_INET ? bind(fd, (void *)&four, sizeof four) : bind(fd, (void *)&six, sizeof six));
    size = sizeof here, getsockname(fd, (void *)&here, &size);
    return fd;
}

static void gets(const char *what, int fd)
{
    char text[100] = {0};
    long n = (errno = 0, usleep(10000), recv(fd, text, sizeof text, MSG_DONTWAIT));
    printf("%s: %ld '%s' %s\n", what, n, text, n < 0 ? strerrorname_np(errno) : "");
}

static void family(int family)
{
    int r = bound(family, LITE, 0), s = socket(family, SOCK_DGRAM, LITE), u = socket(family, SOCK_DGRAM, 0), same = bound(family, 0, ((struct sockaddr_in *)&here)->sin_port), c;
    int values[] = {0, 1, 7, 8, 9, 20, 65535, 65536, -1, 1 << 30};
    R(option(r, SOL_SOCKET, SO_PROTOCOL)), R(option(r, SOL_SOCKET, SO_TYPE)), R(option(same, SOL_SOCKET, SO_PROTOCOL));
    R(sendto(s, "hello", 5, 0, (void *)&here, size)), gets("lite", r), gets("plain", same), R(sendto(u, "hello", 5, 0, (void *)&here, size)), gets("lite", r), gets("plain", same);
    for (unsigned n = 0; n < sizeof values / sizeof *values; n++)
        R(set(s, LITE, SEND_COVERAGE, values[n])), R(option(s, LITE, SEND_COVERAGE)), R(set(r, LITE, RECV_COVERAGE, values[n])), R(option(r, LITE, RECV_COVERAGE));
    R(option(s, LITE, RECV_COVERAGE)), R(option(s, IPPROTO_UDP, SEND_COVERAGE)), R(set(s, IPPROTO_UDP, SEND_COVERAGE, 12)), R(option(s, LITE, SEND_COVERAGE)), R(setsockopt(s, LITE, SEND_COVERAGE, &c, 3)), R(set(s, LITE, 99, 1)), R(option(s, LITE, 99));
    R(option(u, LITE, SEND_COVERAGE)), R(option(u, IPPROTO_UDP, SEND_COVERAGE)), R(set(u, LITE, SEND_COVERAGE, 8)), R(set(u, IPPROTO_UDP, RECV_COVERAGE, 8)), R(option(u, IPPROTO_UDP, RECV_COVERAGE));
    for (int sent = 0; sent < 24; sent += 6)
        for (int asked = 0; asked < 24; asked += 7)
            set(s, LITE, SEND_COVERAGE, sent), set(r, LITE, RECV_COVERAGE, asked), printf("%d of %d: ", sent, asked), R(sendto(s, "datagram", 8, 0, (void *)&here, size)), gets("  comes", r);
    set(s, LITE, SEND_COVERAGE, 0), set(r, LITE, RECV_COVERAGE, 0), R(sendto(s, "", 0, 0, (void *)&here, size)), gets("empty", r), R(connect(s, (void *)&here, size)), R(send(s, "more", 4, 0)), gets("connected", r), close(r), R(send(s, "gone", 4, 0)), gets("refused", s), R(send(s, big, 65508, 0));
    close(s), close(u), close(same);
}

int main(void)
{
    int n, k;
    begin(), family(AF_INET), family(AF_INET6);
    R(socket(AF_INET, SOCK_STREAM, LITE)), R(socket(AF_UNIX, SOCK_DGRAM, LITE)), R(socket(AF_INET, SOCK_DGRAM, 6));
    n = bound(AF_INET, LITE, 0);
    FILE *f = fopen("/proc/net/udplite", "r");
    for (k = 0; fgets(buffer, sizeof buffer, f); k++)
        ;
    R(k), fclose(f), close(n), f = fopen("/proc/net/udplite6", "r"), R(f != NULL), fclose(f);
    return 0;
}
