/* Urgent data of UNIX stream sockets: MSG_OOB, SO_OOBINLINE, SIOCATMARK, SIGURG, and what poll(2) says of it. */
#include "calls.h"
#include "net.h"
#include <linux/sockios.h>

static sigset_t blocked;
static unsigned random_state;

static unsigned drawn(unsigned below)
{
    random_state = random_state * 1103515245 + 12345;
    return (random_state >> 16) % below;
}

static void state(void)
{
    struct pollfd p = {sv[1], 0xffff & ~POLLNVAL, 0};
    int mark = -1, left = -1;
    ioctl(sv[1], SIOCATMARK, &mark), ioctl(sv[0], SIOCOUTQ, &left), poll(&p, 1, 0);
    printf("; mark %d polls %x%s\n", mark, (unsigned)p.revents, left ? "" : ", all read");
}

static void give(const char *text, int flags)
{
    int n = (errno = 0, send(sv[0], text, strlen(text), flags | MSG_NOSIGNAL | MSG_DONTWAIT));
    printf("send '%s' %#x: %d %s", text, flags, n, n < 0 ? strerrorname_np(errno) : ""), state();
}

static void get(int flags, int n)
{
    memset(buffer, 0, 200), errno = 0;
    int got = recv(sv[1], buffer, n, flags | MSG_DONTWAIT);
    printf("recv %#x of %d: %d '%s' %s", flags, n, got, buffer, got < 0 ? strerrorname_np(errno) : ""), state();
}

static void basics(void)
{
    int left;
    PAIR(SOCK_STREAM), get(MSG_OOB, 5), give("", MSG_OOB), give("abc", 0), get(MSG_OOB, 5), give("def", MSG_OOB), get(MSG_OOB | MSG_PEEK, 5), get(MSG_OOB, 0), get(MSG_OOB, 5), give("ghi", 0);
    R(ioctl(sv[1], FIONREAD, &left)), R(left), get(MSG_PEEK, 50), get(0, 2), get(0, 50), get(0, 50), get(0, 50), give("jk", MSG_OOB), give("lm", MSG_OOB), give("n", MSG_OOB), give("o", 0), get(MSG_PEEK, 9), get(0, 50), get(MSG_PEEK, 50), get(0, 50), CLOSE2();
    PAIR(SOCK_STREAM), R(option(sv[1], SOL_SOCKET, SO_OOBINLINE)), R(set(sv[1], SOL_SOCKET, SO_OOBINLINE, 1)), R(option(sv[1], SOL_SOCKET, SO_OOBINLINE));
    give("abc", MSG_OOB), give("def", 0), get(MSG_OOB, 5), get(0, 50), get(MSG_PEEK, 50), get(0, 50), give("g", MSG_OOB), get(0, 50), CLOSE2();
}

static void ends(void)
{
    int n;
    PAIR(SOCK_STREAM), give("abc", MSG_OOB), close(sv[0]), get(0, 50), get(MSG_OOB, 5), get(0, 50), get(0, 50), close(sv[1]);
    PAIR(SOCK_STREAM), give("a", MSG_OOB), get(MSG_OOB, 5), close(sv[1]), R(recv(sv[0], buffer, 5, 0)), R(send(sv[0], "x", 1, MSG_OOB | MSG_NOSIGNAL)), R(recv(sv[0], buffer, 5, MSG_OOB)), close(sv[0]);
    PAIR(SOCK_STREAM), give("a", MSG_OOB), close(sv[1]), R(recv(sv[0], buffer, 5, 0)), R(recv(sv[0], buffer, 5, 0)), close(sv[0]);
    PAIR(SOCK_STREAM), R(shutdown(sv[0], SHUT_WR)), give("x", MSG_OOB), get(MSG_OOB, 5), get(0, 5), CLOSE2();
    PAIR(SOCK_DGRAM), R(ioctl(sv[0], SIOCATMARK, &n)), R(ioctl(sv[0], SIOCATMARK, 8)), give("x", MSG_OOB), get(MSG_OOB, 5), CLOSE2(), PAIR(SOCK_SEQPACKET), give("x", MSG_OOB), get(MSG_OOB, 5), CLOSE2();
    n = socket(AF_UNIX, SOCK_STREAM, 0), R(send(n, "x", 1, MSG_OOB)), R(send(n, "xy", 2, MSG_OOB)), R(recv(n, buffer, 5, MSG_OOB)), R(ioctl(n, SIOCATMARK, &n)), R(n), R(ioctl(sv[0], SIOCATMARK, 8));
    PAIR(SOCK_STREAM), R(ioctl(sv[0], SIOCATMARK, 8));
    while (send(sv[0], big, 1000, MSG_DONTWAIT) > 0)
        ;
    R(send(sv[0], "x", 1, MSG_OOB | MSG_DONTWAIT)), R(recv(sv[1], big, sizeof big, 0) > 10000), R(send(sv[0], big, 100000, MSG_OOB)), R(recv(sv[1], big, sizeof big, MSG_WAITALL)), get(MSG_OOB, 1), CLOSE2();
}

static void messages(void)
{
    char control[CMSG_SPACE(sizeof(int))] = {0}, byte[8];
    struct iovec one = {"ab", 2}, in = {byte, sizeof byte};
    struct msghdr m = {.msg_iov = &one, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control}, r = {.msg_iov = &in, .msg_iovlen = 1};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    int p[2];
    c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(sizeof(int)), *(int *)CMSG_DATA(c) = 1;
    for (int n = 2; n > 0; n--)
        for (int taken = 0; taken < 3; taken++) {
            char back[100] = {0};
            PAIR(SOCK_STREAM), one.iov_len = n, R(sendmsg(sv[0], &m, MSG_OOB)), give("c", 0);
            for (int k = 0; k < 3; k++) {
                r.msg_control = back, r.msg_controllen = sizeof back;
                R(recvmsg(sv[1], &r, MSG_DONTWAIT | (taken == k ? MSG_OOB : 0))), R(r.msg_flags), R(r.msg_controllen), printf("%c\n", byte[0]);
                if (r.msg_controllen)
                    close(*(int *)CMSG_DATA(CMSG_FIRSTHDR(&r)));
            }
            CLOSE2();
        }
    PAIR(SOCK_STREAM), pipe(p), *(int *)CMSG_DATA(c) = p[1], one.iov_len = 1, R(sendmsg(sv[0], &m, MSG_OOB)), close(p[1]), give("d", 0), polled("held", p[0]), get(0, 5), polled("dropped", p[0]), CLOSE2(), close(p[0]);
    for (int n = 0; n < 2; n++) {
        PAIR(SOCK_STREAM), pipe(p), *(int *)CMSG_DATA(c) = p[1], R(sendmsg(sv[0], &m, MSG_OOB)), close(p[1]), get(MSG_OOB, 1), polled("taken", p[0]);
        if (n)
            give("e", MSG_OOB), get(MSG_OOB, 1), polled("followed", p[0]);
        give("f", 0), get(0, 5), polled("passed", p[0]), CLOSE2(), close(p[0]);
    }
}

static void waiting(void)
{
    struct pollfd p;
    PAIR(SOCK_STREAM);
    pid_t pid = fork();
    if (!pid) {
        usleep(30000), send(sv[0], "abc", 3, 0), usleep(30000), send(sv[0], "def", 3, MSG_OOB), usleep(30000), send(sv[0], "ghi", 3, 0), usleep(200000), send(sv[0], "jkl", 3, MSG_OOB), usleep(100000), send(sv[0], "m", 1, 0), _exit(0);
    }
    memset(buffer, 0, 100), R(recv(sv[1], buffer, 50, MSG_WAITALL)), printf("%s\n", buffer);
    p = (struct pollfd){sv[1], POLLPRI, 0}, R(poll(&p, 1, 1000)), R(p.revents), R(recv(sv[1], buffer, 3, MSG_WAITALL)), printf("%s\n", buffer);
    R(poll(&p, 1, 1000)), R(p.revents), R(recv(sv[1], buffer, 1, MSG_OOB)), R(poll(&p, 1, 0)), R(recv(sv[1], buffer, 2, MSG_WAITALL)), R(read(sv[1], buffer, 5)), printf("%c\n", buffer[0]);
    waitpid(pid, NULL, 0), CLOSE2();
}

static void seen(const char *what)
{
    siginfo_t info;
    int signo;
    printf("%s:", what);
    while ((signo = sigtimedwait(&blocked, &info, &(struct timespec){0, 0})) > 0)
        printf(" %d/%d", signo > 40 ? signo - SIGRTMIN + 1000 : signo, info.si_code);
    puts("");
}
#define S(call) (R(call), seen("  told"))

static void signals(void)
{
    sigemptyset(&blocked), sigaddset(&blocked, SIGURG), sigaddset(&blocked, SIGIO), sigaddset(&blocked, SIGRTMIN), sigprocmask(SIG_BLOCK, &blocked, NULL);
    PAIR(SOCK_STREAM), S(send(sv[0], "a", 1, MSG_OOB)), R(fcntl(sv[1], F_SETOWN, getpid())), S(send(sv[0], "bc", 2, MSG_OOB)), S(send(sv[0], "d", 1, 0));
    R(fcntl(sv[1], F_SETFL, O_ASYNC)), S(send(sv[0], "ef", 2, MSG_OOB)), R(fcntl(sv[1], F_SETSIG, SIGRTMIN)), S(send(sv[0], "gh", 2, MSG_OOB)), S(send(sv[0], "i", 1, MSG_OOB)), S(recv(sv[1], buffer, 1, MSG_OOB)), CLOSE2();
}

/* Whatever is done in whatever order. */
static void anything(void)
{
    char text[8], next = 'a';
    for (int run = 0; run < 60; run++) {
        printf("run %d\n", run), PAIR(SOCK_STREAM);
        if (run % 3 == 0)
            set(sv[1], SOL_SOCKET, SO_OOBINLINE, 1);
        for (int step = 0; step < 20; step++) {
            unsigned what = drawn(9), n = 1 + drawn(4);
            if (what < 4) {
                for (unsigned k = 0; k < n; k++)
                    text[k] = next, next = next == 'z' ? 'a' : next + 1;
                text[n] = 0, give(text, drawn(2) ? MSG_OOB : 0);
            } else if (what < 6)
                get(drawn(3) ? 0 : MSG_PEEK, n == 4 ? 50 : n);
            else if (what < 7)
                get(MSG_OOB | (drawn(3) ? 0 : MSG_PEEK), drawn(2));
            else
                get(0, 50);
        }
        CLOSE2();
    }
}

int main(void)
{
    begin(), basics(), ends(), messages(), waiting(), signals(), anything();
    return 0;
}
