/* Signals for descriptors (O_ASYNC): who is told, of what, and with which siginfo. */
#include "calls.h"
#include <netinet/in.h>
#include <pty.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <termios.h>

static sigset_t set;

/* All signals of `set` that wait, in the order in which they are taken. */
static void seen(const char *what)
{
    struct timespec none = {0, 0};
    siginfo_t info;
    int signo;
    printf("%s:", what);
    while ((signo = sigtimedwait(&set, &info, &none)) > 0) {
        printf(" %d/%d", signo > 40 ? signo - SIGRTMIN + 1000 : signo, info.si_code);
        if (signo == SIGCHLD && info.si_code > 0)
            continue;
        if (info.si_code > 0 && info.si_code < 0x80)
            printf("[%x fd %d]", (unsigned)info.si_band, info.si_fd);
        else if (info.si_code == SI_KERNEL)
            printf("[%d %d]", info.si_pid, info.si_uid);
        else if (info.si_code == SI_SIGIO)
            printf("<%x fd %d>", (unsigned)info.si_band, info.si_fd);
    }
    puts("");
}
#define S(call) (R(call), seen("  told"))

static void owners(void)
{
    struct f_owner_ex owner = {F_OWNER_PID, getpid()};
    int p[2], status;
    pid_t child;
    R(pipe(p)), R(fcntl(p[0], F_GETOWN)), R(fcntl(p[0], F_GETSIG));
    memset(&owner, 7, sizeof owner);
    R(fcntl(p[0], F_GETOWN_EX, &owner)), R(owner.type), R(owner.pid);
    R(fcntl(p[0], F_SETOWN, getpid())), R(fcntl(p[0], F_GETOWN) == getpid()), R(fcntl(p[0], F_GETOWN_EX, &owner)), R(owner.type), R(owner.pid == getpid());
    R(fcntl(p[0], F_SETOWN, -getpgrp())), R(fcntl(p[0], F_GETOWN_EX, &owner)), R(owner.type), R(owner.pid == getpgrp());
    R(fcntl(p[0], F_SETOWN, 0)), R(fcntl(p[0], F_GETOWN_EX, &owner)), R(owner.type), R(owner.pid);
    R(fcntl(p[0], F_SETOWN, 999999)), R(fcntl(p[0], F_SETOWN, -999999)), R(fcntl(p[0], F_SETOWN, INT_MIN)), R(fcntl(p[0], F_SETOWN, INT_MAX));
    owner.type = 3, owner.pid = getpid(), R(fcntl(p[0], F_SETOWN_EX, &owner));
    owner.type = F_OWNER_TID, R(fcntl(p[0], F_SETOWN_EX, &owner)), R(fcntl(p[0], F_GETOWN) == getpid());
    owner.pid = 999999, R(fcntl(p[0], F_SETOWN_EX, &owner)), owner.pid = -1, R(fcntl(p[0], F_SETOWN_EX, &owner)), owner.pid = 0, R(fcntl(p[0], F_SETOWN_EX, &owner)), R(fcntl(p[0], F_GETOWN));
    R(fcntl(p[0], F_SETOWN_EX, 1)), R(fcntl(p[0], F_GETOWN_EX, 1)), R(fcntl(99, F_SETOWN, 0));
    R(fcntl(p[0], F_SETSIG, 65)), R(fcntl(p[0], F_SETSIG, -1)), R(fcntl(p[0], F_SETSIG, SIGRTMAX)), R(fcntl(p[0], F_GETSIG)), R(fcntl(p[0], F_SETSIG, 0));
    R(fcntl(open("/dev/null", O_RDONLY), F_SETOWN, getpid()));
    if (!(child = fork()))
        pause();
    R(fcntl(p[0], F_SETOWN, child)), kill(child, SIGKILL), waitid(P_PID, child, NULL, WEXITED | WNOWAIT), R(fcntl(p[0], F_GETOWN) == child);
    waitpid(child, &status, 0), R(fcntl(p[0], F_GETOWN)), R(fcntl(p[0], F_GETOWN_EX, &owner)), R(owner.type), R(owner.pid);
    R(fcntl(open(".", O_PATH), F_GETOWN));
}

static void pipes(void)
{
    int p[2], n;
    R(pipe(p)), R(fcntl(p[0], F_SETFL, O_ASYNC | O_NONBLOCK)), S(write(p[1], "x", 1));
    R(fcntl(p[0], F_SETOWN, getpid())), R(fcntl(p[0], F_GETFL)), S(write(p[1], "x", 1)), S(write(p[1], "x", 1)), S(read(p[0], buffer, 1));
    R(fcntl(p[0], F_SETSIG, SIGRTMIN + 3)), write(p[1], "x", 1), S(write(p[1], "y", 1));
    R(fcntl(p[0], F_SETSIG, SIGUSR1)), write(p[1], "x", 1), S(write(p[1], "y", 1)), R(fcntl(p[0], F_SETSIG, SIGIO)), S(write(p[1], "y", 1));
    R(fcntl(p[0], F_SETSIG, SIGCHLD)), S(write(p[1], "y", 1)), R(fcntl(p[0], F_SETSIG, SIGURG)), S(write(p[1], "y", 1)), R(fcntl(p[0], F_SETSIG, SIGRTMIN + 1));
    R(fcntl(p[1], F_SETOWN, getpid())), R(fcntl(p[1], F_SETFL, O_ASYNC | O_NONBLOCK)), R(fcntl(p[1], F_SETSIG, SIGRTMIN + 2));
    S(read(p[0], buffer, 100)), S(write(p[1], big, 100000)), S(read(p[0], buffer, 10)), S(read(p[0], buffer, 100000));
    R(dup2(p[0], 50)), S(write(p[1], "x", 1)), R(fcntl(50, F_SETFL, O_ASYNC)), S(write(p[1], "x", 1)), R(close(p[0])), S(write(p[1], "x", 1));
    R(fcntl(50, F_SETFL, 0)), R(fcntl(50, F_GETFL)), R(fcntl(50, F_SETFL, O_ASYNC)), S(write(p[1], "x", 1));
    S(close(p[1])), R(close(50)), seen("closed");
    R(pipe(p)), n = 1, R(ioctl(p[1], FIOASYNC, &n)), R(fcntl(p[1], F_GETFL)), R(fcntl(p[1], F_SETOWN, getpid())), S(close(p[0])), n = 0, R(ioctl(p[1], FIOASYNC, &n)), R(fcntl(p[1], F_GETFL));
    n = open("plain", O_RDWR | O_CREAT, 0600), R(fcntl(n, F_SETFL, O_ASYNC)), R(fcntl(n, F_GETFL) & O_ASYNC), R(ioctl(n, FIOASYNC, &n)), p[0] = 0, R(ioctl(n, FIOASYNC, p));
}

static void packets(int type)
{
    int s[2];
    printf("type %d\n", type);
    R(socketpair(AF_UNIX, type, 0, s)), R(fcntl(s[0], F_SETOWN, getpid())), R(fcntl(s[0], F_SETSIG, SIGRTMIN)), R(fcntl(s[0], F_SETFL, O_ASYNC | O_NONBLOCK)), R(fcntl(s[1], F_SETFL, O_NONBLOCK));
    S(write(s[1], "a", 1)), S(write(s[1], "bc", 2)), S(read(s[0], buffer, 100)), S(write(s[0], "xyz", 3)), S(read(s[1], buffer, 100));
    while (write(s[0], big, 1000) > 0)
        ;
    seen("full");
    while (read(s[1], buffer, 1000) > 0)
        ;
    seen("empty");
    if (type == SOCK_STREAM)
        S(shutdown(s[1], SHUT_WR)), S(shutdown(s[1], SHUT_RD));
    S(close(s[1])), S(close(s[0]));
}

static void streams(void)
{
    struct sockaddr_in here = {AF_INET, 0, {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof here;
    int l, c, a, n;
    R(l = socket(AF_INET, SOCK_STREAM, 0)), R(bind(l, (void *)&here, size)), R(listen(l, 5)), getsockname(l, (void *)&here, &size);
    R(fcntl(l, F_SETOWN, getpid())), R(fcntl(l, F_SETSIG, SIGRTMIN)), R(fcntl(l, F_SETFL, O_ASYNC));
    R(c = socket(AF_INET, SOCK_STREAM, 0)), R(connect(c, (void *)&here, size)), usleep(20000), seen("connected"), R(a = accept(l, NULL, NULL)), R(fcntl(a, F_GETFL)), R(fcntl(a, F_GETOWN));
    R(fcntl(a, F_SETSIG, SIGRTMIN + 1)), R(ioctl(a, FIOSETOWN, (int[]){getpid()})), R(ioctl(a, FIOGETOWN, &n)), R(n == getpid()), R(ioctl(a, SIOCGPGRP, &n)), R(ioctl(a, SIOCSPGRP, (int[]){999999})), R(ioctl(a, FIOASYNC, (int[]){1})), R(fcntl(a, F_GETFL));
    S((write(c, "a", 1), usleep(20000))), S(read(a, buffer, 10)), S((send(c, "u", 1, MSG_OOB), usleep(20000))), R(fcntl(a, F_SETSIG, 0)), S((send(c, "v", 1, MSG_OOB), usleep(20000)));
    R(fcntl(a, F_SETFL, 0)), S((send(c, "w", 1, MSG_OOB), usleep(20000))), R(fcntl(a, F_SETFL, O_ASYNC | O_NONBLOCK)), R(fcntl(a, F_SETSIG, SIGRTMIN + 1));
    S((shutdown(c, SHUT_WR), usleep(20000))), S((close(c), usleep(20000))), S(close(a)), S(close(l));
    int u = socket(AF_INET, SOCK_DGRAM, 0), v = socket(AF_INET, SOCK_DGRAM, 0);
    here.sin_port = 0, R(bind(u, (void *)&here, size)), getsockname(u, (void *)&here, &size), R(fcntl(u, F_SETOWN, getpid())), R(fcntl(u, F_SETSIG, SIGRTMIN)), R(fcntl(u, F_SETFL, O_ASYNC));
    S(sendto(v, "ab", 2, 0, (void *)&here, size)), S(sendto(v, "c", 1, 0, (void *)&here, size)), S(read(u, buffer, 9));
}

static void terminals(void)
{
    struct termios raw;
    int m, s;
    R(openpty(&m, &s, NULL, NULL, NULL)), R(fcntl(s, F_SETFL, O_ASYNC | O_NONBLOCK)), R(fcntl(s, F_GETOWN) == getpid()), R(fcntl(s, F_SETSIG, SIGRTMIN)), R(fcntl(m, F_SETFL, O_ASYNC | O_NONBLOCK)), R(fcntl(m, F_SETSIG, SIGRTMIN + 1)), R(fcntl(m, F_GETOWN) == getpid());
    R(fcntl(m, F_SETFL, O_NONBLOCK));
    S((write(m, "abc", 3), usleep(20000))), S((write(m, "\n", 1), usleep(20000))), S((write(m, "d\ne\n", 4), usleep(20000))), S(read(s, buffer, 100));
    tcgetattr(s, &raw), cfmakeraw(&raw), tcsetattr(s, TCSANOW, &raw), tcflush(s, TCIOFLUSH), tcflush(m, TCIOFLUSH), seen("raw");
    S((write(m, "abc", 3), usleep(20000))), S((write(m, "d", 1), usleep(20000))), R(fcntl(s, F_SETFL, O_NONBLOCK)), R(fcntl(m, F_SETFL, O_ASYNC | O_NONBLOCK));
    S((write(s, "shown", 5), usleep(20000))), S(read(m, buffer, 100)), S(close(s));
}

static void queues(void)
{
    struct signalfd_siginfo info;
    int i, p[2], fd, sfd;
    R(i = inotify_init1(IN_NONBLOCK)), R(inotify_add_watch(i, ".", IN_CREATE) > 0), R(fcntl(i, F_SETOWN, getpid())), R(fcntl(i, F_SETSIG, SIGRTMIN)), R(fcntl(i, F_SETFL, O_ASYNC));
    S(close(open("made", O_CREAT | O_RDWR, 0600)));
    R(pipe(p)), R(dup2(p[0], 60)), R(fcntl(60, F_SETOWN, getpid())), R(fcntl(60, F_SETSIG, SIGRTMIN + 4)), R(fcntl(60, F_SETFL, O_ASYNC));
    R((sfd = signalfd(-1, &set, 0)) > 0), write(p[1], "x", 1), R(read(sfd, &info, sizeof info));
    R(info.ssi_signo - SIGRTMIN), R(info.ssi_code), R(info.ssi_fd), R(info.ssi_band), R(info.ssi_pid), R(info.ssi_uid), R(info.ssi_addr);
    fd = eventfd(0, 0), R(fcntl(fd, F_SETFL, O_ASYNC)), R(fcntl(fd, F_GETFL));
}

static volatile int tids[2];
static void told(int signal, siginfo_t *info, void *context) { tids[1] = gettid(), last = info->si_fd; }
static void *teller(void *argument)
{
    sigset_t one;
    sigemptyset(&one), sigaddset(&one, SIGRTMIN + 5), pthread_sigmask(SIG_UNBLOCK, &one, NULL);
    tids[0] = gettid();
    while (!tids[1])
        usleep(1000);
    return NULL;
}

static void groups(void)
{
    struct sigaction action = {.sa_sigaction = told, .sa_flags = SA_SIGINFO};
    struct f_owner_ex owner = {F_OWNER_TID, 0};
    pthread_t thread;
    pid_t one, two;
    int p[2], r[2];
    sigaction(SIGRTMIN + 5, &action, NULL);
    R(pipe(p)), pthread_create(&thread, NULL, teller, NULL);
    while (!tids[0])
        usleep(1000);
    owner.pid = tids[0], R(fcntl(p[0], F_SETOWN_EX, &owner)), R(fcntl(p[0], F_GETOWN) == tids[0]), R(fcntl(p[0], F_SETSIG, SIGRTMIN + 5)), R(fcntl(p[0], F_SETFL, O_ASYNC));
    write(p[1], "x", 1), pthread_join(thread, NULL), R(tids[0] == tids[1]), R(last == p[0]), R(fcntl(p[0], F_GETOWN));
    R(pipe(r)), R(pipe(p)), R(fcntl(p[0], F_SETSIG, SIGRTMIN)), R(fcntl(p[0], F_SETFL, O_ASYNC));
    one = fork();
    if (!one)
        setpgid(0, 0), write(r[1], "1", 1), _exit(sigwaitinfo(&set, NULL) == SIGRTMIN ? 11 : 12);
    read(r[0], buffer, 1), two = fork();
    if (!two)
        setpgid(0, one), write(r[1], "2", 1), _exit(sigwaitinfo(&set, NULL) == SIGRTMIN ? 21 : 22);
    read(r[0], buffer, 1), R(fcntl(p[0], F_SETOWN, -one)), write(p[1], "x", 1), ended(one), ended(two), seen("self");
}

int main(void)
{
    begin();
    sigemptyset(&set), sigaddset(&set, SIGIO), sigaddset(&set, SIGURG), sigaddset(&set, SIGUSR1), sigaddset(&set, SIGCHLD);
    for (int n = 0; n < 8; n++)
        sigaddset(&set, SIGRTMIN + n);
    sigprocmask(SIG_BLOCK, &set, NULL);
    owners(), seen("owners"), pipes(), packets(SOCK_STREAM), packets(SOCK_DGRAM), packets(SOCK_SEQPACKET), streams(), terminals(), queues(), groups();
    return 0;
}
