/* AF_UNIX sockets: streams, datagrams and packets, names, what goes along with messages, ends and readiness. */
#include "calls.h"
#include "net.h"

static void making(void)
{
    R(socket(AF_UNIX, SOCK_STREAM, 0));
    R(socket(AF_UNIX, SOCK_STREAM, 1));
    R(socket(AF_UNIX, SOCK_STREAM, 7));
    R(socket(AF_UNIX, SOCK_RDM, 0));
    R(socket(AF_UNIX, SOCK_RAW, 0));
    R(option(5, SOL_SOCKET, SO_TYPE));
    R(socket(AF_UNIX, 12, 0));
    R(socket(AF_UNIX, SOCK_STREAM | 0x100, 0));
    R(socket(46, SOCK_STREAM, 0));
    R(socket(-1, SOCK_STREAM, 0));
    R(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv));
    R(fcntl(sv[0], F_GETFD));
    R(fcntl(sv[0], F_GETFL));
    R(fcntl(sv[1], F_GETFL));
    R(read(sv[0], buffer, 10));
    R(lseek(sv[0], 0, SEEK_CUR));
    R(pread(sv[0], buffer, 10, 0));
    struct stat s;
    fstat(sv[0], &s);
    printf("mode %o size %d links %d\n", s.st_mode, (int)s.st_size, (int)s.st_nlink);
    CLOSE2();
    R(socketpair(AF_UNIX, SOCK_STREAM, 0, (int *)16));
    R(socketpair(AF_INET, SOCK_STREAM, 0, sv));
    int p[2];
    R(pipe(p));
    R(getsockname(p[0], (void *)buffer, (socklen_t *)big));
    R(send(p[1], "x", 1, 0));
    R(listen(77, 1));
    R(syscall(102, 99, buffer));
    R(syscall(102, 1, 16));
    R(syscall(359, AF_UNIX, SOCK_STREAM, 0));
    for (int fd = 3; fd < 12; fd++)
        close(fd);
}

static void streams(void)
{
    PAIR(SOCK_STREAM);
    R(write(sv[0], "hello ", 6));
    R(send(sv[0], "world", 5, 0));
    int n = 0;
    R(ioctl(sv[1], FIONREAD, &n));
    R(n);
    R(recv(sv[1], buffer, 4, MSG_PEEK));
    R(recv(sv[1], buffer, 4, 0));
    R(read(sv[1], buffer + 4, 100));
    printf("%.11s\n", buffer);
    R(recv(sv[1], buffer, 4, MSG_DONTWAIT));
    R(recv(sv[1], buffer, 0, MSG_DONTWAIT));
    R(read(sv[1], buffer, 0));
    R(send(sv[0], "x", 1, MSG_OOB) >= -1);
    recv(sv[1], buffer, 10, MSG_DONTWAIT);
    R(sendto(sv[0], "x", 1, 0, (void *)&un, un_name("@nobody")));
    R(send(sv[0], (void *)16, 1, 0));
    R(send(sv[0], "", 0, 0));
    R(write(sv[0], "abc", 3));
    R(recv(sv[1], (void *)16, 3, 0));
    R(recv(sv[1], buffer, 3, 0));
    named("pair", getsockname, sv[0]);
    named("peer", getpeername, sv[0]);
    polled("idle", sv[0]);
    write(sv[1], "q", 1);
    polled("full", sv[0]);
    R(shutdown(sv[1], SHUT_WR));
    polled("half", sv[0]);
    R(recv(sv[0], buffer, 10, 0));
    R(recv(sv[0], buffer, 10, 0));
    R(send(sv[1], "x", 1, MSG_NOSIGNAL));
    R(write(sv[0], "back", 4));
    R(read(sv[1], buffer, 10));
    R(shutdown(sv[0], SHUT_RD));
    R(shutdown(sv[0], 3));
    R(shutdown(sv[0], SHUT_RDWR));
    polled("both", sv[0]);
    polled("other", sv[1]);
    on(SIGPIPE, 0);
    count = 0;
    R(write(sv[0], "x", 1));
    R(count);
    R(read(sv[0], buffer, 1));
    CLOSE2();
    PAIR(SOCK_STREAM);
    write(sv[0], "unread", 6);
    close(sv[1]);
    polled("reset", sv[0]);
    R(write(sv[0], "x", 1));
    R(count);
    R(read(sv[0], buffer, 10));
    R(read(sv[0], buffer, 10));
    R(option(sv[0], SOL_SOCKET, SO_ERROR));
    close(sv[0]);
    PAIR(SOCK_STREAM);
    write(sv[1], "left", 4);
    close(sv[1]);
    polled("closed", sv[0]);
    R(read(sv[0], buffer, 10));
    R(read(sv[0], buffer, 10));
    R(send(sv[0], "x", 1, MSG_NOSIGNAL));
    R(count);
    close(sv[0]);
    PAIR(SOCK_STREAM);
    struct iovec iov[3] = {{"ab", 2}, {"cde", 3}, {"f", 1}}, to[2] = {{buffer, 4}, {buffer + 10, 10}};
    R(writev(sv[0], iov, 3));
    R(readv(sv[1], to, 2));
    printf("%.4s %.2s\n", buffer, buffer + 10);
    pid_t pid = LATER(30, (write(sv[0], "one", 3), usleep(30000), write(sv[0], "two", 3)));
    R(recv(sv[1], buffer, 6, MSG_WAITALL));
    ended(pid);
    int total = 0;
    pid = fork();
    if (!pid) {
        close(sv[1]);
        R(write(sv[0], big, sizeof big));
        _exit(0);
    }
    close(sv[0]);
    while ((n = read(sv[1], buffer, 50000)) > 0)
        total += n;
    R(total);
    ended(pid);
    close(sv[1]);
}

static void timeouts(void)
{
    struct timeval t = {0, 50000}, bad = {0, 1000000};
    socklen_t size = sizeof t;
    PAIR(SOCK_STREAM);
    R(setsockopt(sv[0], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
    R(setsockopt(sv[0], SOL_SOCKET, SO_SNDTIMEO, &bad, sizeof bad));
    R(setsockopt(sv[0], SOL_SOCKET, SO_RCVTIMEO, &t, 4));
    R(read(sv[0], buffer, 1));
    t.tv_usec = 0;
    R(getsockopt(sv[0], SOL_SOCKET, SO_RCVTIMEO, &t, &size));
    printf("timeout %d.%06d size %d\n", (int)t.tv_sec, (int)t.tv_usec / 10000 * 10000, size);
    on(SIGALRM, SA_RESTART);
    ualarm(20000, 0);
    t = (struct timeval){0, 500000};
    setsockopt(sv[0], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
    R(read(sv[0], buffer, 1));
    t = (struct timeval){0, 0};
    setsockopt(sv[0], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
    pid_t pid = LATER(60, write(sv[1], "z", 1));
    ualarm(20000, 0);
    count = 0;
    R(read(sv[0], buffer, 1));
    R(count);
    ended(pid);
    on(SIGALRM, 0);
    ualarm(20000, 0);
    R(read(sv[0], buffer, 1));
    fcntl(sv[0], F_SETFL, O_NONBLOCK);
    memset(big, 'b', sizeof big);
    R(write(sv[0], big, sizeof big) < (int)sizeof big);
    R(write(sv[0], big, sizeof big));
    polled("no room", sv[0]);
    fcntl(sv[0], F_SETFL, 0);
    t = (struct timeval){0, 30000};
    setsockopt(sv[0], SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t);
    R(write(sv[0], big, 10));
    R(set(sv[0], SOL_SOCKET, SO_RCVLOWAT, 3));
    write(sv[1], "12345", 5);
    R(recv(sv[0], buffer, 10, 0));
    CLOSE2();
}

static void interrupted(void)
{
    int n;
    on(SIGALRM, 0);
    PAIR(SOCK_STREAM);
    write(sv[1], "abc", 3);
    ualarm(30000, 0);
    R(recv(sv[0], buffer, 10, MSG_WAITALL));
    ualarm(30000, 0);
    R(recv(sv[0], buffer, 10, MSG_WAITALL));
    ualarm(30000, 0);
    n = write(sv[0], big, sizeof big);
    R(n > 100000 && n < (int)sizeof big);
    ualarm(30000, 0);
    R(write(sv[0], big, sizeof big));
    CLOSE2();
}

static void datagrams(void)
{
    PAIR(SOCK_DGRAM);
    R(send(sv[0], "first message", 13, 0));
    R(send(sv[0], "", 0, 0));
    R(send(sv[0], "third", 5, 0));
    int n = -1;
    R(ioctl(sv[1], FIONREAD, &n));
    R(n);
    R(recv(sv[1], buffer, 5, MSG_PEEK));
    R(recv(sv[1], buffer, 5, MSG_PEEK | MSG_TRUNC));
    R(recv(sv[1], buffer, 5, 0));
    R(recv(sv[1], buffer, 5, 0));
    R(read(sv[1], buffer, 50));
    R(recv(sv[1], buffer, 5, MSG_DONTWAIT));
    R(send(sv[0], big, 300000, 0));
    struct msghdr m = {0};
    struct iovec iov = {buffer, 3};
    m.msg_iov = &iov, m.msg_iovlen = 1;
    send(sv[0], "longer", 6, 0);
    R(recvmsg(sv[1], &m, 0));
    printf("flags %#x namelen %d controllen %d\n", m.msg_flags, m.msg_namelen, (int)m.msg_controllen);
    R(send(sv[0], (void *)16, 4, 0));
    R(recv(sv[1], buffer, 5, MSG_DONTWAIT));
    send(sv[0], "gone", 4, 0);
    R(recv(sv[1], (void *)16, 4, 0));
    R(recv(sv[1], buffer, 5, MSG_DONTWAIT));
    count = 0;
    R(shutdown(sv[1], SHUT_RD));
    R(send(sv[0], "x", 1, 0));
    R(recv(sv[1], buffer, 5, MSG_DONTWAIT));
    R(recv(sv[1], buffer, 5, 0));
    polled("shut", sv[1]);
    close(sv[1]);
    R(send(sv[0], "x", 1, 0));
    R(send(sv[0], "x", 1, 0));
    R(count);
    polled("alone", sv[0]);
    close(sv[0]);

    int a = socket(AF_UNIX, SOCK_DGRAM, 0), b = socket(AF_UNIX, SOCK_DGRAM, 0), c = socket(AF_UNIX, SOCK_DGRAM, 0);
    R(bind(a, (void *)&un, un_name("dgram.a")));
    R(bind(a, (void *)&un, un_name("dgram.aa")));
    R(bind(b, (void *)&un, un_name("dgram.a")));
    R(bind(b, (void *)&un, un_name("@dgram.b")));
    R(bind(c, (void *)&un, un_name("@dgram.b")));
    named("a", getsockname, a);
    named("b", getsockname, b);
    named("c", getsockname, c);
    R(sendto(c, "to a", 4, 0, (void *)&un, un_name("dgram.a")));
    R(sendto(b, "to a", 4, 0, (void *)&un, un_name("dgram.a")));
    struct sockaddr_un from = {0};
    socklen_t size = sizeof from;
    R(recvfrom(a, buffer, 10, 0, (void *)&from, &size));
    R(size);
    size = sizeof from;
    R(recvfrom(a, buffer, 10, 0, (void *)&from, &size));
    printf("from size %d '%s'\n", size, from.sun_path + 1);
    size = 5;
    sendto(b, "again", 5, 0, (void *)&un, un_name("dgram.a"));
    R(recvfrom(a, buffer, 10, 0, (void *)&from, &size));
    R(size);
    R(send(c, "x", 1, 0));
    R(connect(c, (void *)&un, un_name("dgram.none")));
    R(connect(c, (void *)&un, un_name("@dgram.none")));
    R(connect(c, (void *)&un, un_name("dgram.a")));
    R(send(c, "x", 1, 0));
    R(connect(a, (void *)&un, un_name("@dgram.b")));
    R(send(c, "x", 1, 0));
    R(sendto(c, "x", 1, 0, (void *)&un, un_name("@dgram.b")));
    un.sun_family = AF_UNSPEC;
    R(connect(c, (void *)&un, sizeof un));
    R(send(c, "x", 1, 0));
    R(listen(c, 1));
    R(accept(c, NULL, NULL));
    fcntl(c, F_SETFL, O_NONBLOCK);
    int sent = 0;
    while (sendto(c, "n", 1, 0, (void *)&un, un_name("@dgram.b")) == 1)
        sent++;
    R(sent);
    R(errno == EAGAIN);
    connect(c, (void *)&un, un_name("@dgram.b"));
    polled("full", c);
    R(unlink("dgram.a"));
    R(sendto(c, "x", 1, 0, (void *)&un, un_name("dgram.a")));
    open("plain", O_CREAT | O_WRONLY, 0600);
    R(sendto(c, "x", 1, 0, (void *)&un, un_name("plain")));
    for (int fd = 3; fd < 12; fd++)
        close(fd);
}

static void listening(void)
{
    int l = socket(AF_UNIX, SOCK_STREAM, 0), c = socket(AF_UNIX, SOCK_STREAM, 0), d = socket(AF_UNIX, SOCK_DGRAM, 0);
    polled("new", l);
    R(listen(l, 5));
    R(accept(l, NULL, NULL));
    R(connect(c, (void *)&un, un_name("stream.l")));
    R(bind(l, (void *)&un, un_name("stream.l")));
    R(connect(c, (void *)&un, un_name("stream.l")));
    R(option(l, SOL_SOCKET, SO_ACCEPTCONN));
    R(listen(l, 1));
    R(option(l, SOL_SOCKET, SO_ACCEPTCONN));
    polled("listening", l);
    struct stat s;
    R(stat("stream.l", &s));
    printf("mode %o\n", s.st_mode);
    R(open("stream.l", O_RDWR));
    R(connect(d, (void *)&un, un_name("stream.l")));
    R(connect(c, (void *)&un, un_name("stream.l")));
    R(connect(c, (void *)&un, un_name("stream.l")));
    polled("pending", l);
    polled("connected", c);
    R(write(c, "early", 5));
    fcntl(l, F_SETFL, O_NONBLOCK);
    struct sockaddr_un from = {0};
    socklen_t size = sizeof from;
    int s1 = accept4(l, (void *)&from, &size, SOCK_CLOEXEC | SOCK_NONBLOCK);
    R(s1);
    R(size);
    R(fcntl(s1, F_GETFD));
    R(fcntl(s1, F_GETFL));
    named("accepted", getsockname, s1);
    named("peer of accepted", getpeername, s1);
    named("peer", getpeername, c);
    R(read(s1, buffer, 10));
    R(accept(l, NULL, NULL));
    R(accept4(l, NULL, NULL, 1));
    R(read(l, buffer, 1));
    R(send(l, "x", 1, MSG_NOSIGNAL));
    R(connect(l, (void *)&un, un_name("stream.l")));
    int more[4];
    for (int i = 0; i < 4; i++) {
        more[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        R(connect(more[i], (void *)&un, un_name("stream.l")));
    }
    fcntl(more[3], F_SETFL, 0);
    fcntl(l, F_SETFL, 0);
    pid_t pid = LATER(50, (accept(l, NULL, NULL), usleep(100000)));
    R(connect(more[3], (void *)&un, un_name("stream.l")));
    ended(pid);
    struct ucred u;
    size = sizeof u;
    R(getsockopt(c, SOL_SOCKET, SO_PEERCRED, &u, &size));
    printf("cred %d %d %d %d\n", u.pid == getpid(), u.uid, u.gid, size);
    size = sizeof u;
    R(getsockopt(d, SOL_SOCKET, SO_PEERCRED, &u, &size));
    printf("cred %d %d %d\n", u.pid, u.uid, u.gid);
    R(accept(l, (void *)16, &size));
    R(close(l));
    R(recv(more[1], buffer, 1, 0));
    R(connect(d, (void *)&un, un_name("stream.l")));
    int e = socket(AF_UNIX, SOCK_STREAM, 0);
    R(connect(e, (void *)&un, un_name("stream.l")));
    R(bind(e, (void *)&un, un_name("stream.l")));
    R(bind(e, (void *)&un, 2));
    size = sizeof from;
    R(getsockname(e, (void *)&from, &size));
    printf("automatic %d %d\n", size, from.sun_path[0]);
    R(bind(d, (void *)&un, 1));
    R(bind(d, (void *)&un, 200));
    R(bind(d, (void *)16, 20));
    R(connect(d, (void *)&un, 2));
    R(getpeername(d, (void *)&from, &size));
    for (int fd = 3; fd < 20; fd++)
        close(fd);
    int seq = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    c = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    R(bind(seq, (void *)&un, un_name("@seq")));
    R(send(c, "x", 1, 0));
    R(recv(c, buffer, 1, 0));
    R(listen(seq, 0));
    R(connect(c, (void *)&un, un_name("@seq")));
    int got = accept(seq, NULL, NULL);
    R(send(c, "one", 3, 0));
    R(sendto(c, "second", 6, 0, (void *)&un, un_name("@seq")));
    R(recv(got, buffer, 100, 0));
    struct msghdr m = {0};
    struct iovec iov = {buffer, 2};
    m.msg_iov = &iov, m.msg_iovlen = 1;
    R(recvmsg(got, &m, 0));
    printf("flags %#x\n", m.msg_flags);
    close(got);
    polled("seq", c);
    R(recv(c, buffer, 1, 0));
    count = 0;
    R(send(c, "x", 1, 0));
    R(count);
    for (int fd = 3; fd < 20; fd++)
        close(fd);
}

static char control[256], data[64];
static struct msghdr m;
static struct iovec iov;

static void header(int size, int room)
{
    memset(&m, 0, sizeof m);
    iov.iov_base = data, iov.iov_len = size;
    m.msg_iov = &iov, m.msg_iovlen = 1;
    m.msg_control = room ? control : NULL, m.msg_controllen = room;
}

static struct cmsghdr *along(int type, const void *body, int size)
{
    struct cmsghdr *c = (void *)control;
    c->cmsg_level = SOL_SOCKET, c->cmsg_type = type, c->cmsg_len = CMSG_LEN(size);
    memcpy(CMSG_DATA(c), body, size);
    m.msg_controllen = CMSG_SPACE(size);
    return c;
}

static void told(const char *what)
{
    printf("%s: flags %#x controllen %d", what, m.msg_flags, (int)m.msg_controllen);
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
        printf(" [%d %d %d", (int)c->cmsg_len, c->cmsg_level, c->cmsg_type);
        if (c->cmsg_type == SCM_CREDENTIALS) {
            struct ucred *u = (void *)CMSG_DATA(c);
            printf(" %s %d %d", u->pid == getpid() ? "self" : u->pid ? "other" : "none", u->uid, u->gid);
        } else {
            for (int *fd = (int *)CMSG_DATA(c); (char *)(fd + 1) <= (char *)c + c->cmsg_len; fd++)
                printf(" %d", *fd);
        }
        printf("]");
    }
    printf("\n");
}

static void passing(int type)
{
    int p[2], fds[3];
    PAIR(type);
    pipe(p);
    fds[0] = p[1], fds[1] = p[0], fds[2] = 77;
    header(2, sizeof control);
    along(SCM_RIGHTS, fds, 8);
    R(sendmsg(sv[0], &m, 0));
    along(SCM_RIGHTS, fds, 12);
    R(sendmsg(sv[0], &m, 0));
    along(99, fds, 8);
    R(sendmsg(sv[0], &m, 0));
    along(SCM_RIGHTS, fds, 8)->cmsg_level = 55;
    R(sendmsg(sv[0], &m, 0));
    along(SCM_RIGHTS, fds, 8)->cmsg_len = 3;
    R(sendmsg(sv[0], &m, 0));
    along(SCM_RIGHTS, fds, 8)->cmsg_len = 300;
    R(sendmsg(sv[0], &m, 0));
    m.msg_control = (void *)16;
    R(sendmsg(sv[0], &m, 0));
    header(10, sizeof control);
    R(recvmsg(sv[1], &m, MSG_PEEK));
    told("peeked");
    header(10, sizeof control);
    R(recvmsg(sv[1], &m, MSG_CMSG_CLOEXEC));
    told("got");
    int *given = (int *)CMSG_DATA((struct cmsghdr *)control);
    R(fcntl(given[0], F_GETFD));
    R(write(given[0], "through", 7));
    R(read(p[0], buffer, 10));
    header(10, sizeof control);
    R(recvmsg(sv[1], &m, 0));
    told("then");
    header(2, sizeof control);
    along(SCM_RIGHTS, fds, 8);
    sendmsg(sv[0], &m, 0);
    header(10, CMSG_LEN(4));
    R(recvmsg(sv[1], &m, 0));
    told("little room");
    header(2, sizeof control);
    along(SCM_RIGHTS, fds, 8);
    sendmsg(sv[0], &m, 0);
    header(10, 0);
    R(recvmsg(sv[1], &m, 0));
    told("no room");
    header(2, sizeof control);
    along(SCM_RIGHTS, fds, 8);
    sendmsg(sv[0], &m, 0);
    R(send(sv[0], "more", 4, 0));
    R(recv(sv[1], buffer, 100, 0));
    if (type == SOCK_STREAM)
        R(recv(sv[1], buffer, 100, 0));
    header(2, sizeof control);
    along(SCM_RIGHTS, fds, 4);
    sendmsg(sv[0], &m, 0);
    close(p[1]);
    header(10, sizeof control);
    R(recvmsg(sv[1], &m, 0));
    R(write(given[0], "late", 4));
    for (int fd = 3; fd < 20; fd++)
        close(fd);
}

static void credentials(int type)
{
    struct ucred u = {getpid(), getuid(), getgid()};
    PAIR(type);
    R(send(sv[0], "before", 6, 0));
    R(set(sv[1], SOL_SOCKET, SO_PASSCRED, 1));
    R(option(sv[1], SOL_SOCKET, SO_PASSCRED));
    R(send(sv[0], "after", 5, 0));
    header(50, sizeof control);
    R(recvmsg(sv[1], &m, 0));
    told("before");
    header(50, sizeof control);
    R(recvmsg(sv[1], &m, 0));
    told("after");
    header(4, sizeof control);
    along(SCM_CREDENTIALS, &u, sizeof u);
    R(sendmsg(sv[0], &m, 0));
    u.uid++;
    along(SCM_CREDENTIALS, &u, sizeof u);
    R(sendmsg(sv[0], &m, 0));
    u.uid--, u.pid++;
    along(SCM_CREDENTIALS, &u, sizeof u);
    R(sendmsg(sv[0], &m, 0));
    along(SCM_CREDENTIALS, &u, 8);
    R(sendmsg(sv[0], &m, 0));
    header(50, sizeof control);
    R(recvmsg(sv[1], &m, 0));
    told("explicit");
    R(send(sv[0], "short", 5, 0));
    header(50, 16);
    R(recvmsg(sv[1], &m, 0));
    told("cut");
    pid_t pid = LATER(0, send(sv[0], "child", 5, 0));
    ended(pid);
    header(50, sizeof control);
    R(recvmsg(sv[1], &m, 0));
    told("child");
    CLOSE2();
}

static void cycles(void)
{
    /* Sockets that only messages to themselves hold: they go. */
    for (int i = 0; i < 1200; i++) {
        if (PAIR(SOCK_STREAM) < 0) {
            R(-1);
            return;
        }
        header(1, sizeof control);
        along(SCM_RIGHTS, sv, 8);
        if (sendmsg(sv[0], &m, 0) < 0) {
            R(-1);
            return;
        }
        CLOSE2();
    }
    R(PAIR(SOCK_STREAM));
    CLOSE2();
}

static void several(void)
{
    struct mmsghdr v[4];
    struct iovec iovs[4] = {{"one", 3}, {"two!", 4}, {"three", 5}, {(void *)16, 3}};
    memset(v, 0, sizeof v);
    for (int i = 0; i < 4; i++)
        v[i].msg_hdr.msg_iov = &iovs[i], v[i].msg_hdr.msg_iovlen = 1;
    PAIR(SOCK_DGRAM);
    R(sendmmsg(sv[0], v, 4, 0));
    printf("%d %d %d\n", v[0].msg_len, v[1].msg_len, v[2].msg_len);
    for (int i = 0; i < 4; i++)
        iovs[i] = (struct iovec){data + 4 * i, 4};
    R(recvmmsg(sv[1], v, 2, 0, NULL));
    printf("%d %d\n", v[0].msg_len, v[1].msg_len);
    R(recvmmsg(sv[1], v, 4, MSG_WAITFORONE, NULL));
    printf("%d %#x\n", v[0].msg_len, v[0].msg_hdr.msg_flags);
    R(recvmmsg(sv[1], v, 4, MSG_DONTWAIT, NULL));
    struct timespec t = {0, 20000000}, bad = {0, -1};
    R(recvmmsg(sv[1], v, 4, MSG_DONTWAIT, &t));
    R(recvmmsg(sv[1], v, 4, 0, &bad));
    R(sendmmsg(sv[0], v, 0, 0));
    v[0].msg_hdr.msg_iovlen = 1025;
    R(sendmsg(sv[0], &v[0].msg_hdr, 0));
    R(sendmsg(sv[0], (void *)16, 0));
    CLOSE2();
}

static void shown(void)
{
    char name[64], link[64];
    PAIR(SOCK_STREAM);
    sprintf(name, "/proc/self/fd/%d", sv[0]);
    int n = readlink(name, link, 63);
    link[n > 0 ? n : 0] = 0;
    printf("%.8s\n", link);
    R(open(name, O_RDWR));
    R(ftruncate(sv[0], 0));
    R(fsync(sv[0]));
    R(ioctl(sv[0], TIOCGWINSZ, buffer));
    R(dup(sv[0]));
    close(sv[0]);
    polled("still there", sv[1]);
    close(sv[0] + 2);
    polled("gone", sv[1]);
    close(sv[1]);
    R(syscall(360, AF_UNIX, SOCK_STREAM, 0, sv));
    R(syscall(369, sv[0], "direct", 6, 0, NULL, 0));
    R(syscall(371, sv[1], buffer, 10, 0, NULL, NULL));
    R(syscall(373, sv[0], SHUT_WR));
    R(syscall(371, sv[1], buffer, 10, 0, NULL, NULL));
    CLOSE2();
}

/* One abstract name for each type of socket. */
static void types(void)
{
    static const int kinds[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET, SOCK_RAW};
    int bound[4];
    char name[40], got[10];
    sprintf(name, "@types of %d", getpid());
    socklen_t size = un_name(name);
    for (int i = 0; i < 4; i++)
        R(bind(bound[i] = socket(AF_UNIX, kinds[i], 0), (void *)&un, size));
    close(bound[3]);
    R(listen(bound[0], 2));
    R(listen(bound[2], 2));
    for (int i = 0; i < 3; i++) {
        int fd = socket(AF_UNIX, kinds[i], 0);
        R(connect(fd, (void *)&un, size));
        R(send(fd, "hello", i + 1, 0));
        int to = kinds[i] == SOCK_DGRAM ? bound[i] : accept(bound[i], 0, 0);
        R(recv(to, got, 9, MSG_DONTWAIT));
        if (to != bound[i]) close(to);
        close(bound[i]);
        close(fd);
        R(connect(fd = socket(AF_UNIX, kinds[i], 0), (void *)&un, size));
        close(fd);
    }
}

int main(void)
{
    begin();
    R(close(3) + 1);
    making();
    streams();
    timeouts();
    interrupted();
    datagrams();
    listening();
    printf("-- stream\n");
    passing(SOCK_STREAM);
    credentials(SOCK_STREAM);
    printf("-- datagram\n");
    passing(SOCK_DGRAM);
    credentials(SOCK_DGRAM);
    cycles();
    several();
    shown();
    types();
    return 0;
}
