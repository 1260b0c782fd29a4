/* TCP and UDP over the loopback interface, in both families: names, connections, ends, readiness, refusals. */
#include "calls.h"
#include "net.h"
#include <ifaddrs.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>

static struct sockaddr_in in;
static struct sockaddr_in6 in6;

static void *v4(const char *ip, int port)
{
    memset(&in, 0, sizeof in);
    in.sin_family = AF_INET;
    in.sin_port = htons(port);
    inet_pton(AF_INET, ip, &in.sin_addr);
    return &in;
}

static void *v6(const char *ip, int port)
{
    memset(&in6, 0, sizeof in6);
    in6.sin6_family = AF_INET6;
    in6.sin6_port = htons(port);
    inet_pton(AF_INET6, ip, &in6.sin6_addr);
    return &in6;
}

static int port_of(int fd)
{
    struct sockaddr_in6 a;
    socklen_t size = sizeof a;
    return getsockname(fd, (void *)&a, &size) < 0 ? -1 : ntohs(a.sin6_port);
}

static void whom(const char *what, int (*get)(int, struct sockaddr *, socklen_t *), int fd)
{
    struct sockaddr_in6 a;
    socklen_t size = sizeof a;
    char text[64] = "";
    if (get(fd, (void *)&a, &size) < 0) {
        show(what, -1);
        return;
    }
    inet_ntop(a.sin6_family, a.sin6_family == AF_INET ? (void *)&((struct sockaddr_in *)&a)->sin_addr : &a.sin6_addr,
              text, sizeof text);
    printf("%s: family %d size %d %s port %s\n", what, a.sin6_family, size, text, a.sin6_port ? "some" : "none");
}

/* Lines of a file of /proc/net that have `what` in them. */
static void table(const char *file, const char *what)
{
    char line[300];
    FILE *f = fopen(file, "r");
    int n = 0;
    while (f && fgets(line, sizeof line, f))
        n += strstr(line, what) != NULL;
    printf("%s: %d\n", file, n);
    if (f)
        fclose(f);
}

static int listener, client, server, port;

/* A listening socket, and a connection to it. */
static void join(void)
{
    listener = socket(AF_INET, SOCK_STREAM, 0);
    bind(listener, v4("127.0.0.1", 0), sizeof in);
    listen(listener, 5);
    port = port_of(listener);
    client = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(client, v4("127.0.0.1", port), sizeof in))
        show("join", -1);
    server = accept(listener, NULL, NULL);
}

static void part(void)
{
    close(listener);
    close(client);
    close(server);
}

static void making(void)
{
    R(close(socket(AF_INET, SOCK_STREAM, 0)));
    R(close(socket(AF_INET, SOCK_STREAM, IPPROTO_TCP)));
    R(socket(AF_INET, SOCK_STREAM, IPPROTO_UDP));
    R(close(socket(AF_INET, SOCK_DGRAM, IPPROTO_UDP)));
    R(socket(AF_INET, SOCK_DGRAM, IPPROTO_TCP));
    R(socket(AF_INET, SOCK_SEQPACKET, 0));
    R(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
    R(socketpair(AF_INET, SOCK_STREAM, 0, sv));
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    R(option(fd, SOL_SOCKET, SO_DOMAIN));
    R(option(fd, SOL_SOCKET, SO_TYPE));
    R(option(fd, SOL_SOCKET, SO_PROTOCOL));
    close(fd);
    fd = socket(AF_INET, SOCK_STREAM, 0);
    polled("new", fd);
    whom("new", getsockname, fd);
    whom("new peer", getpeername, fd);
    R(read(fd, buffer, 1));
    on(SIGPIPE, 0);
    R(write(fd, "x", 1));
    R(count);
    R(shutdown(fd, SHUT_RD));
    R(accept(fd, NULL, NULL));
    R(bind(fd, v4("127.0.0.1", 0), 8));
    R(bind(fd, v6("::1", 0), sizeof in6));
    R(bind(fd, v4("1.2.3.4", 0), sizeof in));
    R(bind(fd, v4("127.0.0.1", 80), sizeof in));
    R(bind(fd, v4("127.0.0.1", 0), sizeof in));
    R(bind(fd, v4("127.0.0.1", 0), sizeof in));
    whom("bound", getsockname, fd);
    int other = socket(AF_INET, SOCK_STREAM, 0);
    R(bind(other, v4("127.0.0.1", port_of(fd)), sizeof in));
    R(bind(other, v4("0.0.0.0", port_of(fd)), sizeof in));
    R(bind(other, v4("127.0.0.2", port_of(fd)), sizeof in));
    close(other);
    other = socket(AF_INET, SOCK_STREAM, 0);
    set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    set(other, SOL_SOCKET, SO_REUSEADDR, 1);
    R(bind(other, v4("127.0.0.1", port_of(fd)), sizeof in));
    R(listen(fd, 1));
    R(listen(other, 1));
    close(other);
    other = socket(AF_INET, SOCK_STREAM, 0);
    set(other, SOL_SOCKET, SO_REUSEADDR, 1);
    R(bind(other, v4("127.0.0.1", port_of(fd)), sizeof in));
    close(other);
    close(fd);
    fd = socket(AF_INET, SOCK_STREAM, 0);
    R(listen(fd, 1));
    whom("listening", getsockname, fd);
    R(option(fd, SOL_SOCKET, SO_ACCEPTCONN));
    close(fd);
}

static void connections(void)
{
    join();
    char shown[32];
    sprintf(shown, " 0100007F:%04X 00000000:0000 0A ", port);
    table("/proc/net/tcp", shown);
    sprintf(shown, " 0100007F:%04X 0100007F:%04X 01 ", port, port_of(client));
    table("/proc/net/tcp", shown);
    table("/proc/self/net/dev", " lo: ");
    whom("listener", getsockname, listener);
    whom("client", getsockname, client);
    whom("client's peer", getpeername, client);
    whom("server", getsockname, server);
    R(port_of(server) == port);
    R(connect(client, v4("127.0.0.1", port), sizeof in));
    R(connect(listener, v4("127.0.0.1", port), sizeof in));
    R(bind(client, v4("127.0.0.1", 0), sizeof in));
    R(listen(client, 1));
    R(read(listener, buffer, 1));
    count = 0;
    R(write(listener, "x", 1));
    R(count);
    polled("listener", listener);
    polled("client", client);
    R(write(client, "request", 7));
    polled("server", server);
    int n = 0;
    R(ioctl(server, FIONREAD, &n));
    R(n);
    R(recv(server, buffer, 3, MSG_PEEK));
    R(recv(server, buffer, 3, 0));
    R(recv(server, buffer, 2, MSG_TRUNC));
    R(recv(server, buffer, 100, 0));
    R(recv(server, buffer, 100, MSG_DONTWAIT));
    R(recv(server, buffer, 0, MSG_DONTWAIT));
    R(send(server, "", 0, 0));
    R(sendto(server, "x", 1, 0, v4("127.0.0.1", 9), sizeof in));
    struct sockaddr_in6 from;
    socklen_t size = sizeof from;
    R(recvfrom(client, buffer, 10, 0, (void *)&from, &size));
    R(size);
    R(send(server, (void *)16, 1, 0));
    write(server, "abc", 3);
    R(recv(client, (void *)16, 3, 0));
    R(recv(client, buffer, 3, MSG_DONTWAIT));
    R(ioctl(client, SIOCATMARK, &n));
    R(n);
    pid_t pid = LATER(30, (write(server, "one", 3), usleep(30000), write(server, "two", 3)));
    R(recv(client, buffer, 6, MSG_WAITALL));
    ended(pid);
    pid = fork();
    if (!pid) {
        close(client);
        R(write(server, big, sizeof big));
        _exit(0);
    }
    close(server);
    int total = 0;
    while ((n = read(client, buffer, 60000)) > 0)
        total += n;
    R(total);
    ended(pid);
    part();
}

static void ends(void)
{
    join();
    R(shutdown(client, SHUT_WR));
    polled("server of a half", server);
    polled("client of a half", client);
    R(read(server, buffer, 10));
    R(write(server, "answer", 6));
    R(read(client, buffer, 10));
    count = 0;
    R(write(client, "x", 1));
    R(count);
    R(shutdown(client, SHUT_WR));
    close(server);
    polled("client of a whole", client);
    R(read(client, buffer, 10));
    R(option(client, SOL_SOCKET, SO_ERROR));
    part();

    join();
    write(server, "last", 4);
    close(server);
    polled("closed", client);
    R(read(client, buffer, 10));
    R(read(client, buffer, 10));
    R(write(client, "x", 1));
    polled("written", client);
    R(write(client, "x", 1));
    R(count);
    R(read(client, buffer, 10));
    R(send(client, "x", 1, MSG_NOSIGNAL));
    R(count);
    part();

    join();
    write(client, "unread", 6);
    write(server, "kept", 4);
    close(server);
    polled("reset", client);
    R(read(client, buffer, 10));
    R(read(client, buffer, 10));
    R(read(client, buffer, 10));
    whom("peer", getpeername, client);
    R(shutdown(client, SHUT_WR));
    part();

    join();
    struct linger l = {1, 0}, got = {9, 9};
    socklen_t size = sizeof got;
    R(setsockopt(server, SOL_SOCKET, SO_LINGER, &l, sizeof l));
    R(getsockopt(server, SOL_SOCKET, SO_LINGER, &got, &size));
    printf("linger %d %d %d\n", got.l_onoff, got.l_linger, size);
    close(server);
    R(option(client, SOL_SOCKET, SO_ERROR));
    R(option(client, SOL_SOCKET, SO_ERROR));
    R(read(client, buffer, 10));
    part();

    join();
    R(shutdown(server, SHUT_RD));
    R(read(server, buffer, 1));
    R(write(client, "still", 5));
    R(read(server, buffer, 10));
    R(shutdown(server, SHUT_RDWR));
    polled("shut", server);
    R(shutdown(server, 5));
    part();

    join();
    pid_t pid = fork();
    if (!pid) {
        usleep(40000);
        _exit(0);
    }
    close(server); /* the child has it still */
    R(recv(client, buffer, 1, MSG_DONTWAIT));
    R(read(client, buffer, 1));
    ended(pid);
    part();

    join();
    int two = socket(AF_INET, SOCK_STREAM, 0);
    R(connect(two, v4("127.0.0.1", port), sizeof in));
    polled("arrived", listener);
    R(close(listener));
    R(read(two, buffer, 1));
    R(write(client, "goes on", 7));
    R(read(server, buffer, 10));
    R(connect(listener = socket(AF_INET, SOCK_STREAM, 0), v4("127.0.0.1", port), sizeof in));
    close(two);
    part();

    join();
    R(shutdown(listener, SHUT_RD));
    R(accept(listener, NULL, NULL));
    polled("no listener", listener);
    R(listen(listener, 1));
    part();
}

static void refusals(void)
{
    listener = socket(AF_INET, SOCK_STREAM, 0);
    bind(listener, v4("127.0.0.1", 0), sizeof in);
    port = port_of(listener); /* bound, and nobody listens */
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    R(connect(fd, v4("127.0.0.1", port), sizeof in));
    R(connect(fd, v4("127.0.0.1", port), sizeof in));
    R(option(fd, SOL_SOCKET, SO_ERROR));
    polled("refused", fd);
    R(connect(fd, v4("127.0.0.1", port), 10));
    R(connect(fd, v6("::1", port), sizeof in6));
    R(connect(fd, (void *)16, sizeof in));
    R(connect(fd, v4("127.0.0.1", port), -1));
    fcntl(fd, F_SETFL, O_NONBLOCK);
    R(connect(fd, v4("127.0.0.1", port), sizeof in));
    polled("refused later", fd);
    R(option(fd, SOL_SOCKET, SO_ERROR));
    R(option(fd, SOL_SOCKET, SO_ERROR));
    R(connect(fd, v4("127.0.0.1", port), sizeof in));
    R(connect(fd, v4("127.0.0.1", port), sizeof in));
    R(connect(fd, v4("127.0.0.1", port), sizeof in));
    R(read(fd, buffer, 1));
    close(fd);
    listen(listener, 0);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    R(connect(fd, v4("127.0.0.1", port), sizeof in));
    polled("connected", fd);
    R(option(fd, SOL_SOCKET, SO_ERROR));
    R(connect(fd, v4("127.0.0.1", port), sizeof in));
    R(connect(fd, v4("127.0.0.1", port), sizeof in));
    int full = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    R(connect(full, v4("127.0.0.1", port), sizeof in));
    polled("in between", full);
    R(connect(full, v4("127.0.0.1", port), sizeof in));
    R(write(full, "x", 1));
    R(read(full, buffer, 1));
    whom("in between", getpeername, full);
    close(full);
    struct timeval t = {0, 60000};
    full = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(full, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t);
    R(connect(full, v4("127.0.0.1", port), sizeof in));
    close(full);
    fcntl(listener, F_SETFL, O_NONBLOCK);
    R(accept(listener, NULL, NULL) > 0);
    R(accept(listener, NULL, NULL));
    setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
    fcntl(listener, F_SETFL, 0);
    R(accept(listener, NULL, NULL));
    struct sockaddr_in a = {.sin_family = AF_UNSPEC};
    R(connect(fd, (void *)&a, sizeof a));
    whom("dissolved", getpeername, fd);
    polled("dissolved", fd);
    close(fd);
    close(listener);
    fd = socket(AF_INET, SOCK_STREAM, 0);
    count = 0;
    on(SIGALRM, 0);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    listen(listener, 1);
    ualarm(30000, 0);
    R(accept(listener, NULL, NULL));
    pid_t pid = LATER(30, close(connect(fd, v4("127.0.0.1", port_of(listener)), sizeof in)));
    socklen_t size = sizeof in;
    R(accept4(listener, (void *)&in, &size, SOCK_NONBLOCK | SOCK_CLOEXEC) > 0);
    R(size);
    ended(pid);
    for (fd = 3; fd < 20; fd++)
        close(fd);
}

static void datagrams(void)
{
    int a = socket(AF_INET, SOCK_DGRAM, 0), b = socket(AF_INET, SOCK_DGRAM, 0), c = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in from;
    socklen_t size = sizeof from;
    polled("new", a);
    R(send(a, "x", 1, 0));
    R(recv(a, buffer, 1, MSG_DONTWAIT));
    R(bind(a, v4("127.0.0.1", 0), sizeof in));
    port = port_of(a);
    R(bind(b, v4("127.0.0.1", port), sizeof in));
    R(sendto(b, "hello", 5, 0, v4("127.0.0.1", port), sizeof in));
    whom("sender", getsockname, b);
    polled("received", a);
    R(recvfrom(a, buffer, 2, MSG_PEEK | MSG_TRUNC, (void *)&from, &size));
    R(recvfrom(a, buffer, 2, 0, (void *)&from, &size));
    printf("from %d %d %s\n", size, ntohs(from.sin_port) == port_of(b), inet_ntoa(from.sin_addr));
    R(recv(a, buffer, 10, MSG_DONTWAIT));
    R(sendto(b, "", 0, 0, v4("127.0.0.1", port), sizeof in));
    R(recv(a, buffer, 10, 0));
    R(sendto(b, "x", 1, 0, v4("127.0.0.1", 0), sizeof in));
    R(sendto(b, "x", 1, 0, v4("127.0.0.1", port), 5));
    R(sendto(b, "x", 1, 0, v6("::1", port), sizeof in6));
    R(sendto(b, "x", 1, 0, v4("255.255.255.255", port), sizeof in));
    R(sendto(b, big, 65508, 0, v4("127.0.0.1", port), sizeof in));
    R(sendto(b, big, 65507, 0, v4("127.0.0.1", port), sizeof in));
    int n = 0;
    R(ioctl(a, FIONREAD, &n));
    R(n);
    R(read(a, buffer, 70000));
    R(sendto(b, "to 0", 4, 0, v4("0.0.0.0", port), sizeof in));
    R(read(a, buffer, 10));
    R(connect(b, v4("127.0.0.1", port), sizeof in));
    whom("connected", getsockname, b);
    whom("connected", getpeername, b);
    R(write(b, "one", 3));
    R(sendto(c, "not seen", 8, 0, v4("127.0.0.1", port_of(b)), sizeof in));
    R(recv(b, buffer, 10, MSG_DONTWAIT));
    R(sendto(a, "seen", 4, 0, v4("127.0.0.1", port_of(b)), sizeof in));
    R(recv(b, buffer, 10, MSG_DONTWAIT));
    R(recv(a, buffer, 10, MSG_DONTWAIT));
    R(sendto(b, "elsewhere", 9, 0, v4("127.0.0.1", port_of(c)), sizeof in));
    R(recv(c, buffer, 10, MSG_DONTWAIT));
    close(a);
    R(write(b, "x", 1));
    polled("refused", b);
    R(write(b, "x", 1));
    R(write(b, "x", 1));
    R(recv(b, buffer, 10, MSG_DONTWAIT));
    R(recv(b, buffer, 10, MSG_DONTWAIT));
    R(sendto(c, "nobody", 6, 0, v4("127.0.0.1", port), sizeof in));
    R(recv(c, buffer, 10, MSG_DONTWAIT));
    R(listen(c, 1));
    R(accept(c, NULL, NULL));
    R(shutdown(c, SHUT_RD));
    R(shutdown(b, SHUT_WR));
    R(write(b, "x", 1));
    struct sockaddr_in none = {.sin_family = AF_UNSPEC};
    R(connect(b, (void *)&none, sizeof none));
    whom("dissolved", getpeername, b);
    struct msghdr m = {0};
    struct iovec iov = {buffer, 3};
    close(b);
    b = socket(AF_INET, SOCK_DGRAM, 0), a = socket(AF_INET, SOCK_DGRAM, 0);
    bind(a, v4("0.0.0.0", 0), sizeof in);
    R(sendto(b, "longer", 6, 0, v4("127.0.0.1", port_of(a)), sizeof in));
    m.msg_name = &from, m.msg_namelen = sizeof from, m.msg_iov = &iov, m.msg_iovlen = 1;
    R(recvmsg(a, &m, 0));
    printf("flags %#x namelen %d controllen %d\n", m.msg_flags, m.msg_namelen, (int)m.msg_controllen);
    set(b, SOL_SOCKET, SO_REUSEADDR, 1), set(a, SOL_SOCKET, SO_REUSEADDR, 1);
    close(b);
    b = socket(AF_INET, SOCK_DGRAM, 0);
    R(bind(b, v4("0.0.0.0", port_of(a)), sizeof in));
    set(b, SOL_SOCKET, SO_REUSEADDR, 1);
    R(bind(b, v4("0.0.0.0", port_of(a)), sizeof in));
    int sent = 0;
    set(a, SOL_SOCKET, SO_RCVBUF, 5000);
    for (fcntl(c, F_SETFL, O_NONBLOCK); sent < 2000 && sendto(c, big, 1000, 0, v4("127.0.0.1", port), sizeof in) == 1000;)
        sent++;
    R(sent);
    for (int fd = 3; fd < 20; fd++)
        close(fd);
}

static void six(void)
{
    int l = socket(AF_INET6, SOCK_STREAM, 0), c = socket(AF_INET6, SOCK_STREAM, 0);
    whom("new", getsockname, l);
    R(bind(l, v6("::1", 0), 20));
    R(bind(l, v4("127.0.0.1", 0), sizeof in6));
    R(option(l, IPPROTO_IPV6, IPV6_V6ONLY));
    R(bind(l, v6("::", 0), sizeof in6));
    R(set(l, IPPROTO_IPV6, IPV6_V6ONLY, 1));
    R(listen(l, 5));
    R(connect(c, v6("::1", port_of(l)), sizeof in6));
    int s = accept(l, NULL, NULL);
    whom("accepted", getsockname, s);
    whom("accepted peer", getpeername, s);
    close(s);
    int c4 = socket(AF_INET, SOCK_STREAM, 0);
    R(connect(c4, v4("127.0.0.1", port_of(l)), sizeof in));
    s = accept(l, NULL, NULL);
    whom("mapped", getsockname, s);
    whom("mapped peer", getpeername, s);
    whom("four", getpeername, c4);
    R(write(c4, "across", 6));
    R(read(s, buffer, 10));
    close(s), close(c), close(c4);
    c = socket(AF_INET6, SOCK_STREAM, 0);
    R(connect(c, v6("::ffff:127.0.0.1", port_of(l)), sizeof in6));
    whom("through", getsockname, c);
    close(c);
    int only = socket(AF_INET6, SOCK_STREAM, 0);
    R(set(only, IPPROTO_IPV6, IPV6_V6ONLY, 1));
    R(connect(only, v6("::ffff:127.0.0.1", port_of(l)), sizeof in6));
    R(bind(only, v6("::ffff:127.0.0.1", 0), sizeof in6));
    R(bind(only, v6("::", 0), sizeof in6));
    R(listen(only, 5));
    c4 = socket(AF_INET, SOCK_STREAM, 0);
    R(connect(c4, v4("127.0.0.1", port_of(only)), sizeof in));
    R(bind(c4, v4("0.0.0.0", port_of(only)), sizeof in));
    R(bind(c = socket(AF_INET, SOCK_STREAM, 0), v4("0.0.0.0", port_of(l)), sizeof in));
    close(l), close(only), close(c), close(c4);
    int a = socket(AF_INET6, SOCK_DGRAM, 0), b = socket(AF_INET6, SOCK_DGRAM, 0);
    R(bind(a, v6("::1", 0), sizeof in6));
    R(sendto(b, "six", 3, 0, v6("::1", port_of(a)), sizeof in6));
    struct sockaddr_in6 from;
    socklen_t size = sizeof from;
    R(recvfrom(a, buffer, 10, 0, (void *)&from, &size));
    printf("size %d family %d\n", size, from.sin6_family);
    close(a), close(b);
}

/* What sockets of AF_INET6 make of an address of AF_INET. */
static void six_to_four(void)
{
    int to = socket(AF_INET, SOCK_DGRAM, 0), fd = socket(AF_INET6, SOCK_DGRAM, 0), only = socket(AF_INET6, SOCK_DGRAM, 0);
    char got[10];
    R(bind(to, v4("127.0.0.1", 0), 16));
    int port = port_of(to);
    R(sendto(fd, "one", 3, 0, v4("127.0.0.1", port), 16));
    R(sendto(fd, "one", 3, 0, v4("127.0.0.1", port), 8));
    R(sendto(fd, "one", 3, 0, v4("127.0.0.1", 0), 16));
    R(connect(fd, v4("127.0.0.1", port), 8));
    R(connect(fd, v4("127.0.0.1", port), 16));
    R(send(fd, "three", 5, 0));
    R(recv(to, got, 9, MSG_DONTWAIT));
    R(recv(to, got, 9, MSG_DONTWAIT));
    R(recv(to, got, 9, MSG_DONTWAIT));
    whom("its peer", getpeername, fd);
    R(connect(fd, v4("0.0.0.0", port), 16));
    whom("this host", getpeername, fd);
    R(set(only, IPPROTO_IPV6, IPV6_V6ONLY, 1));
    R(connect(only, v4("127.0.0.1", port), 16));
    R(sendto(only, "x", 1, 0, v4("127.0.0.1", port), 16));
    R(bind(socket(AF_INET6, SOCK_DGRAM, 0), v4("127.0.0.1", 0), 16));
    R(connect(socket(AF_INET6, SOCK_STREAM, 0), v4("127.0.0.1", port), 16));
    R(connect(to, v6("::1", port), 28));
    R(sendto(to, "x", 1, 0, v6("::1", port), 28));
    close(only);
    close(fd);
    close(to);
}

/* Whether a port can be bound that somebody has had: plainly, with SO_REUSEADDR, with SO_REUSEPORT, with both. */
static void binds(const char *what)
{
    static const int options[4][2] = {{0, 0}, {1, 0}, {0, 1}, {1, 1}};
    printf("%s:", what);
    for (int i = 0; i < 4; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        set(fd, SOL_SOCKET, SO_REUSEADDR, options[i][0]);
        set(fd, SOL_SOCKET, SO_REUSEPORT, options[i][1]);
        printf(" %s", bind(fd, v4("127.0.0.1", port), 16) ? strerrorname_np(errno) : "ok");
        close(fd);
    }
    printf("\n");
}

/* What the table of connections shows of the port, but for times and whose they are. */
static void rests(void)
{
    char line[300];
    FILE *f = fopen("/proc/net/tcp", "r");
    while (fgets(line, sizeof line, f)) {
        unsigned here, there, state, timer;
        if (sscanf(line, "%*d: %*x:%x %*x:%x %x %*x:%*x %x:", &here, &there, &state, &timer) != 4) continue;
        if (state == 6 && (here == port || there == port))
            printf("%s rests, timer %u\n", here == port ? "server" : "client", timer);
    }
    fclose(f);
}

/* Connections that are ended in several ways; `how`: which. */
static void resting(const char *what, int option, int how)
{
    struct linger hard = {1, 0};
    char got[4];
    listener = socket(AF_INET, SOCK_STREAM, 0);
    if (option) set(listener, SOL_SOCKET, option, 1);
    bind(listener, v4("127.0.0.1", 0), 16);
    port = port_of(listener);
    listen(listener, 2);
    client = socket(AF_INET, SOCK_STREAM, 0);
    connect(client, v4("127.0.0.1", port), 16);
    server = accept(listener, 0, 0);
    close(listener);
    int first = how == 1 ? client : server, second = how == 1 ? server : client;
    if (how == 2) setsockopt(first, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    if (how == 3) shutdown(first, SHUT_WR);
    else close(first);
    usleep(1000);
    if (how != 2) binds("one end closed");
    if (how == 4) setsockopt(second, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    if (how == 5) write(second, "x", 1);
    if (how == 6) shutdown(second, SHUT_RDWR);
    if (how != 2 && how != 5) read(second, got, 1);
    close(second);
    if (how == 3) binds("still open"), close(first);
    usleep(1000);
    printf("%s\n", what);
    rests();
    binds("both closed");
}

static void times_wait(void)
{
    resting("server first", 0, 0);
    resting("server first, SO_REUSEADDR", SO_REUSEADDR, 0);
    resting("server first, SO_REUSEPORT", SO_REUSEPORT, 0);
    resting("client first", 0, 1);
    resting("reset", 0, 2);
    resting("shut down", 0, 3);
    resting("reset by the second", 0, 4);
    resting("data for the first", 0, 5);
    resting("the second shuts down", 0, 6);
}

static void interfaces(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct { char name[16]; union { short flags; int number; struct sockaddr_in address; char room[16]; }; } r = {"lo"};
    R(ioctl(fd, 0x8913, &r));
    R(r.flags & 0x49);
    R(ioctl(fd, 0x8915, &r));
    printf("%s\n", inet_ntoa(r.address.sin_addr));
    R(ioctl(fd, 0x891b, &r));
    printf("%s\n", inet_ntoa(r.address.sin_addr));
    R(ioctl(fd, 0x8921, &r));
    R(r.number);
    R(ioctl(fd, 0x8933, &r));
    R(r.number);
    R(ioctl(fd, 0x8910, &r));
    R(ioctl(fd, 0x8914, &r));
    strcpy(r.name, "none0");
    R(ioctl(fd, 0x8915, &r));
    R(ioctl(fd, 0x8915, 16));
    R(ioctl(fd, 0x1234, &r));
    close(fd);
    R(socket(AF_NETLINK, SOCK_STREAM, 0));
    struct ifaddrs *all, *each;
    R(getifaddrs(&all));
    for (each = all; each; each = each->ifa_next) {
        char text[64] = "";
        if (strcmp(each->ifa_name, "lo") || !each->ifa_addr)
            continue;
        if (each->ifa_addr->sa_family == AF_INET)
            inet_ntop(AF_INET, &((struct sockaddr_in *)each->ifa_addr)->sin_addr, text, sizeof text);
        if (each->ifa_addr->sa_family == AF_INET6)
            inet_ntop(AF_INET6, &((struct sockaddr_in6 *)each->ifa_addr)->sin6_addr, text, sizeof text);
        printf("lo %d %#x %s\n", each->ifa_addr->sa_family, each->ifa_flags, text);
    }
    freeifaddrs(all);
    char name[IF_NAMESIZE] = "";
    R(if_nametoindex("lo"));
    printf("%s\n", if_indextoname(1, name) ?: "none");
    fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0);
    struct { struct nlmsghdr h; struct rtgenmsg g; } request = {{sizeof request, 99, NLM_F_REQUEST, 7, 0}, {0}};
    struct sockaddr_nl nl = {AF_NETLINK};
    R(bind(fd, (void *)&nl, sizeof nl));
    R(bind(fd, (void *)&nl, 5));
    socklen_t size = sizeof nl;
    R(getsockname(fd, (void *)&nl, &size));
    printf("%d %d %d\n", size, nl.nl_pid == getpid(), nl.nl_groups);
    request.h.nlmsg_type = RTM_NEWADDR;
    R(send(fd, &request, sizeof request, 0));
    R(recv(fd, buffer, 1000, MSG_DONTWAIT) > 0);
    printf("%d %d\n", ((struct nlmsghdr *)buffer)->nlmsg_type, ((struct nlmsgerr *)(buffer + 16))->error);
    R(recv(fd, buffer, 1000, MSG_DONTWAIT));
    close(fd);
}

int main(void)
{
    begin();
    making();
    connections();
    ends();
    refusals();
    datagrams();
    six();
    six_to_four();
    times_wait();
    interfaces();
    return 0;
}
