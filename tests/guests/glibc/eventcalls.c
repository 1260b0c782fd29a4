/* Events: epoll in its modes, eventfd, timerfd, signalfd; splice, tee and vmsplice. */
#include "calls.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

static int ep, p[2], q[2];
static struct epoll_event out[16];

static int control(int op, int fd, unsigned events, unsigned long long data)
{
    struct epoll_event event = {.events = events, .data.u64 = data};
    return epoll_ctl(ep, op, fd, &event);
}

/* What epoll_wait gives without waiting: the number, then events and data of each. */
static void ready(const char *when)
{
    int n = epoll_wait(ep, out, 16, 0);
    printf("%s: %d", when, n);
    for (int i = 0; i < n; i++)
        printf(" %x:%llx", out[i].events, (unsigned long long)out[i].data.u64);
    printf("\n");
}

static void epoll_errors(void)
{
    struct epoll_event event = {EPOLLIN};
    int file = open("file", O_RDWR | O_CREAT, 0600), other = epoll_create1(0), inner[6];
    R(syscall(SYS_epoll_create, 0));
    R(syscall(SYS_epoll_create, -1));
    R(epoll_create1(1));
    R(epoll_create1(EPOLL_CLOEXEC) > 0);
    pipe(p);
    R(epoll_ctl(99, EPOLL_CTL_ADD, p[0], &event));
    R(epoll_ctl(ep, EPOLL_CTL_ADD, 99, &event));
    R(epoll_ctl(p[0], EPOLL_CTL_ADD, p[1], &event));
    R(epoll_ctl(ep, EPOLL_CTL_ADD, ep, &event));
    R(epoll_ctl(ep, EPOLL_CTL_ADD, file, &event));
    R(epoll_ctl(ep, EPOLL_CTL_ADD, open(".", O_RDONLY), &event));
    R(epoll_ctl(ep, EPOLL_CTL_ADD, open("/dev/null", O_RDONLY), &event));
    R(syscall(SYS_epoll_ctl, ep, EPOLL_CTL_ADD, p[0], NULL));
    R(syscall(SYS_epoll_ctl, ep, EPOLL_CTL_ADD, 99, 16));
    R(epoll_ctl(ep, 7, p[0], &event));
    R(epoll_ctl(ep, EPOLL_CTL_MOD, p[0], &event));
    R(epoll_ctl(ep, EPOLL_CTL_DEL, p[0], NULL));
    R(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &event));
    R(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &event));
    R(control(EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLEXCLUSIVE, 0));
    R(control(EPOLL_CTL_ADD, p[1], EPOLLOUT | EPOLLEXCLUSIVE | EPOLLONESHOT, 0));
    R(control(EPOLL_CTL_ADD, p[1], EPOLLOUT | EPOLLEXCLUSIVE, 0));
    R(control(EPOLL_CTL_MOD, p[1], EPOLLOUT, 0));
    R(control(EPOLL_CTL_ADD, other, EPOLLIN | EPOLLEXCLUSIVE, 0));
    R(epoll_wait(ep, out, 0, 0));
    R(epoll_wait(ep, out, -1, 0));
    R(epoll_wait(p[0], out, 1, 0));
    R(epoll_wait(99, out, 1, 0));
    R(syscall(SYS_epoll_wait, ep, 16, 1, 0));
    R(epoll_wait(ep, out, 1, 0));
    R(control(EPOLL_CTL_ADD, other, EPOLLIN, 0));
    R(epoll_ctl(other, EPOLL_CTL_ADD, ep, &event));
    for (int i = 0; i < 6; i++) {
        inner[i] = epoll_create1(0);
        if (i)
            R(epoll_ctl(inner[i], EPOLL_CTL_ADD, inner[i - 1], &event));
    }
    R(read(ep, buffer, 8));
    R(write(ep, buffer, 8));
    R(lseek(ep, 0, SEEK_SET));
    R(fcntl(ep, F_GETFL));
    for (int i = 0; i < 6; i++)
        close(inner[i]);
    R(control(EPOLL_CTL_DEL, other, 0, 0));
    close(other), close(p[0]), close(p[1]), close(file);
    ready("after the errors");
}

static void epoll_modes(void)
{
    pipe(p);
    R(control(EPOLL_CTL_ADD, p[0], EPOLLIN, 0x1122334455667788));
    R(control(EPOLL_CTL_ADD, p[1], EPOLLOUT, 2));
    ready("empty pipe");
    write(p[1], "ab", 2);
    ready("level");
    ready("level again");
    read(p[0], buffer, 1);
    ready("level, one byte left");
    read(p[0], buffer, 1);
    ready("level, nothing left");
    R(control(EPOLL_CTL_DEL, p[1], 0, 0));
    R(control(EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLET, 3));
    write(p[1], "a", 1);
    ready("edge");
    ready("edge again");
    write(p[1], "a", 1);
    ready("edge, one more");
    R(control(EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLET, 4));
    ready("edge, set anew");
    read(p[0], buffer, 10);
    write(p[1], "a", 1);
    read(p[0], buffer, 10);
    ready("edge, gone before");
    R(control(EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLONESHOT, 5));
    write(p[1], "a", 1);
    ready("oneshot");
    write(p[1], "a", 1);
    ready("oneshot again");
    R(control(EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLONESHOT, 6));
    ready("oneshot, set anew");
    R(control(EPOLL_CTL_MOD, p[0], 0, 7));
    ready("nothing asked for");
    close(p[1]);
    ready("hung up, nothing asked for");
    int copy = dup(p[0]);
    R(control(EPOLL_CTL_ADD, copy, EPOLLIN, 8));
    ready("a second descriptor");
    close(p[0]);
    ready("the first closed");
    close(copy);
    ready("both closed");
    int fds[4][2];
    for (int i = 0; i < 4; i++) {
        pipe(fds[i]);
        write(fds[i][1], "a", 1);
        control(EPOLL_CTL_ADD, fds[i][0], EPOLLIN, i);
    }
    for (int i = 0; i < 3; i++) {
        R(epoll_wait(ep, out, 2, 0));
        printf("%d %d\n", out[0].data.u32, out[1].data.u32);
    }
    close(fds[1][0]);
    ready("one of four closed");
    for (int i = 0; i < 4; i++)
        close(fds[i][0]), close(fds[i][1]);
}

static void epoll_nested(void)
{
    int outer = ep;
    struct pollfd poller = {outer, POLLIN};
    pipe(p);
    ep = epoll_create1(0);
    control(EPOLL_CTL_ADD, p[0], EPOLLIN, 1);
    int inner = ep;
    ep = outer;
    R(control(EPOLL_CTL_ADD, inner, EPOLLIN, 2));
    ready("nested, nothing");
    R(poll(&poller, 1, 0));
    write(p[1], "a", 1);
    ready("nested");
    R(poll(&poller, 1, 0));
    R(poller.revents);
    read(p[0], buffer, 1);
    ready("nested, read");
    R(poll(&poller, 1, 0));
    pid_t pid = LATER(30, write(p[1], "a", 1));
    R(epoll_wait(ep, out, 4, -1));
    ended(pid);
    close(inner);
    ready("nested, closed");
    close(p[0]), close(p[1]);
}

static void epoll_waits(void)
{
    struct timespec brief = {0, 20000000}, wrong = {0, 1000000000};
    sigset_t none;
    sigemptyset(&none);
    pipe(p);
    control(EPOLL_CTL_ADD, p[0], EPOLLIN, 1);
    pid_t me = getpid(), pid = LATER(30, write(p[1], "a", 1));
    R(epoll_wait(ep, out, 4, -1));
    ended(pid);
    read(p[0], buffer, 1);
    R(epoll_wait(ep, out, 4, 20));
    for (int flags = 0; flags <= SA_RESTART; flags += SA_RESTART) {
        on(SIGUSR1, flags);
        pid = LATER(30, kill(me, SIGUSR1));
        R(epoll_wait(ep, out, 4, 5000));
        ended(pid);
    }
    sigset_t block;
    sigemptyset(&block), sigaddset(&block, SIGUSR1);
    sigprocmask(SIG_BLOCK, &block, NULL);
    kill(me, SIGUSR1);
    count = 0;
    R(epoll_wait(ep, out, 4, 0));
    R(count);
    R(epoll_pwait(ep, out, 4, 5000, &none));
    R(count);
    R(syscall(SYS_epoll_pwait, ep, out, 4, 0, &none, 4));
    R(syscall(SYS_epoll_pwait, ep, out, 4, 0, 16, 8));
    R(syscall(441, ep, out, 4, &(long long[2]){0, 20000000}, NULL, 8));
    R(syscall(441, ep, out, 4, &(long long[2]){0, 1000000000}, NULL, 8));
    R(syscall(441, ep, out, 4, 16, NULL, 8));
    (void)brief, (void)wrong;
    sigprocmask(SIG_UNBLOCK, &block, NULL);
    pid = fork();
    if (!pid) {
        write(p[1], "b", 1);
        _exit(control(EPOLL_CTL_DEL, p[0], 0, 0));
    }
    ended(pid);
    ready("after the child took it out");
    close(p[0]), close(p[1]);
}

static long long value(int fd)
{
    long long got = -1;
    int n = read(fd, &got, 8);
    return n == 8 ? got : n;
}

static void eventfds(void)
{
    unsigned long long number = 5;
    int fd = eventfd(3, EFD_NONBLOCK), semaphore = eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK | EFD_CLOEXEC);
    R(eventfd(0, 4));
    R(fcntl(semaphore, F_GETFD));
    R(fcntl(fd, F_GETFL));
    R(write(fd, &number, 8));
    R(value(fd));
    R(value(fd));
    R(value(semaphore));
    R(value(semaphore));
    R(value(semaphore));
    R(read(fd, buffer, 7));
    R(write(fd, &number, 7));
    R(write(fd, buffer, 16));
    number = -1;
    R(write(fd, &number, 8));
    number = -2;
    R(write(fd, &number, 8));
    struct pollfd poller = {fd, POLLIN | POLLOUT};
    R(poll(&poller, 1, 0));
    R(poller.revents);
    number = 1;
    R(write(fd, &number, 8));
    R(value(fd) == -2);
    R(poll(&poller, 1, 0));
    R(poller.revents);
    R(syscall(SYS_read, fd, 16, 8));
    number = 2;
    write(fd, &number, 8);
    R(syscall(SYS_read, fd, 16, 8));
    R(syscall(SYS_write, fd, 16, 8));
    R(pread(fd, buffer, 8, 0));
    R(lseek(fd, 0, SEEK_CUR));
    fcntl(fd, F_SETFL, 0);
    pid_t pid = LATER(30, (number = 9, write(fd, &number, 8)));
    R(value(fd));
    ended(pid);
    on(SIGALRM, 0);
    struct itimerval timer = {.it_value.tv_usec = 30000};
    setitimer(ITIMER_REAL, &timer, NULL);
    R(read(fd, &number, 8));
    control(EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLET, 9);
    ready("eventfd 0");
    number = 1;
    write(fd, &number, 8);
    ready("eventfd 1");
    ready("eventfd 1 again");
    write(fd, &number, 8);
    ready("eventfd 2");
    close(fd), close(semaphore);
}

static void timerfds(void)
{
    struct itimerspec spec = {{0, 0}, {0, 20000000}}, old;
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    R(timerfd_create(CLOCK_PROCESS_CPUTIME_ID, 0));
    R(timerfd_create(CLOCK_BOOTTIME_ALARM, 0));
    R(timerfd_create(CLOCK_REALTIME, 1));
    R(timerfd_settime(fd, 8, &spec, NULL));
    R(timerfd_settime(0, 0, &spec, NULL));
    R(timerfd_settime(99, 0, &spec, NULL));
    R(syscall(SYS_timerfd_settime, fd, 0, 16, NULL));
    R(syscall(SYS_timerfd_gettime, fd, 16));
    spec.it_value.tv_nsec = 1000000000;
    R(timerfd_settime(fd, 0, &spec, NULL));
    spec.it_value.tv_nsec = 20000000;
    R(value(fd));
    R(read(fd, buffer, 7));
    R(write(fd, buffer, 8));
    R(timerfd_gettime(fd, &old));
    R(old.it_value.tv_sec || old.it_value.tv_nsec);
    R(timerfd_settime(fd, 0, &spec, &old));
    R(timerfd_gettime(fd, &old));
    R(old.it_value.tv_nsec > 0 && old.it_value.tv_nsec <= 20000000);
    R(value(fd));
    usleep(30000);
    control(EPOLL_CTL_ADD, fd, EPOLLIN, 7);
    ready("timerfd");
    R(value(fd));
    R(value(fd));
    ready("timerfd read");
    spec.it_interval.tv_nsec = 50000000;
    R(timerfd_settime(fd, 0, &spec, NULL));
    fcntl(fd, F_SETFL, 0);
    R(value(fd));
    usleep(120000);
    R(value(fd));
    R(timerfd_gettime(fd, &old));
    R(old.it_interval.tv_nsec);
    R(old.it_value.tv_nsec > 0 && old.it_value.tv_nsec <= 50000000);
    memset(&spec, 0, sizeof spec);
    R(timerfd_settime(fd, 0, &spec, &old));
    R(old.it_interval.tv_nsec);
    R(timerfd_gettime(fd, &old));
    R(old.it_value.tv_nsec);
    spec.it_value.tv_sec = 1;
    R(timerfd_settime(fd, TFD_TIMER_ABSTIME, &spec, NULL));
    R(value(fd));
    close(fd);
    fd = timerfd_create(CLOCK_REALTIME, 0);
    clock_gettime(CLOCK_REALTIME, &spec.it_value);
    R(timerfd_settime(fd, TFD_TIMER_ABSTIME, &spec, NULL));
    R(value(fd));
    R(syscall(410, fd, buffer));
    R(syscall(411, fd, 0, &(long long[4]){0, 0, 0, 1}, buffer));
    R(value(fd));
    close(fd);
}

static void signalfds(void)
{
    struct signalfd_siginfo info[4];
    sigset_t set;
    sigemptyset(&set), sigaddset(&set, SIGUSR2), sigaddset(&set, SIGCHLD), sigaddset(&set, SIGRTMIN + 1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    R(syscall(SYS_signalfd4, -1, &set, 4, 0));
    R(syscall(SYS_signalfd4, -1, 16, 8, 0));
    R(signalfd(-1, &set, 1));
    R(signalfd(0, &set, 0));
    R(signalfd(99, &set, 0));
    int fd = signalfd(-1, &set, SFD_NONBLOCK);
    R(read(fd, info, 128));
    R(read(fd, info, 127));
    R(write(fd, info, 128));
    control(EPOLL_CTL_ADD, fd, EPOLLIN, 6);
    ready("signalfd");
    kill(getpid(), SIGUSR2);
    sigqueue(getpid(), SIGRTMIN + 1, (union sigval){.sival_int = 77});
    sigqueue(getpid(), SIGRTMIN + 1, (union sigval){.sival_int = 78});
    ready("signalfd, signals");
    R(read(fd, info, 300));
    R(info[0].ssi_signo), R(info[0].ssi_code), R(info[0].ssi_pid == getpid()), R(info[0].ssi_uid);
    R(info[1].ssi_signo), R(info[1].ssi_code), R(info[1].ssi_int), R((int)info[1].ssi_ptr);
    R(read(fd, info, 512));
    R(info[0].ssi_int);
    ready("signalfd, read");
    pid_t pid = fork();
    if (!pid)
        _exit(3);
    fcntl(fd, F_SETFL, 0);
    R(read(fd, info, 128));
    R(info[0].ssi_signo), R(info[0].ssi_code), R(info[0].ssi_status), R(info[0].ssi_pid == pid);
    ended(pid);
    sigdelset(&set, SIGCHLD);
    R(signalfd(fd, &set, 0) == fd);
    pid = LATER(30, kill(getppid(), SIGUSR2));
    R(read(fd, info, 128));
    R(info[0].ssi_pid == pid);
    ended(pid);
    kill(getpid(), SIGUSR2);
    pid = fork();
    if (!pid) {
        fcntl(fd, F_SETFL, O_NONBLOCK);
        R(read(fd, info, 128));
        kill(getpid(), SIGUSR2);
        R(read(fd, info, 128));
        _exit(0);
    }
    ended(pid);
    R(read(fd, info, 128));
    close(fd);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
}

static void splices(void)
{
    long long at = 2;
    int file = open("source", O_RDWR | O_CREAT | O_TRUNC, 0600), target = open("target", O_RDWR | O_CREAT, 0600);
    struct iovec iov[2] = {{"vm", 2}, {"splice", 6}};
    write(file, "0123456789", 10);
    lseek(file, 0, SEEK_SET);
    pipe(p), pipe(q);
    R(splice(99, NULL, 99, NULL, 0, 0));
    R(splice(99, NULL, p[1], NULL, 1, 0));
    R(splice(file, NULL, p[1], NULL, 1, 99));
    R(splice(file, NULL, target, NULL, 1, 0));
    R(splice(p[0], &at, target, NULL, 1, 0));
    R(splice(file, NULL, p[1], &at, 1, 0));
    R(splice(p[1], NULL, target, NULL, 1, 0));
    R(splice(file, NULL, p[0], NULL, 1, 0));
    R(splice(p[0], NULL, p[1], NULL, 1, 0));
    R(syscall(SYS_splice, file, 16, p[1], NULL, 1, 0));
    R(splice(p[0], NULL, target, NULL, 1, SPLICE_F_NONBLOCK));
    R(splice(file, NULL, p[1], NULL, 3, 0));
    R(lseek(file, 0, SEEK_CUR));
    R(splice(file, &at, p[1], NULL, 4, 0));
    R(at);
    R(lseek(file, 0, SEEK_CUR));
    R(tee(p[0], q[1], 5, 0));
    R(read(q[0], buffer, 100));
    printf("%.5s\n", buffer);
    at = 1;
    R(splice(p[0], NULL, target, &at, 100, 0));
    R(at);
    R(pread(target, buffer, 100, 0));
    printf("%.7s\n", buffer + 1);
    R(tee(p[0], q[1], 5, SPLICE_F_NONBLOCK));
    R(tee(p[0], p[1], 5, 0));
    R(tee(p[0], target, 5, 0));
    R(tee(file, q[1], 5, 0));
    R(vmsplice(p[1], iov, 2, 0));
    R(splice(p[0], NULL, q[1], NULL, 5, 0));
    R(read(q[0], buffer, 100));
    printf("%.5s\n", buffer);
    iov[0].iov_base = buffer, iov[0].iov_len = 2, iov[1].iov_base = buffer + 10, iov[1].iov_len = 6;
    R(vmsplice(p[0], iov, 2, 0));
    printf("%.2s %.1s\n", buffer, buffer + 10);
    R(vmsplice(file, iov, 2, 0));
    R(vmsplice(p[0], iov, 2, SPLICE_F_NONBLOCK));
    R(vmsplice(p[1], iov, 2, 99));
    R(splice(file, NULL, p[1], NULL, 100, 0));
    R(splice(file, NULL, p[1], NULL, 100, 0));
    R(read(p[0], buffer, 100));
    fcntl(target, F_SETFL, O_APPEND);
    write(p[1], "x", 1);
    R(splice(p[0], NULL, target, NULL, 1, 0));
    read(p[0], buffer, 1);
    pid_t pid = LATER(30, write(p[1], "late", 4));
    R(splice(p[0], NULL, q[1], NULL, 100, 0));
    ended(pid);
    R(splice(open("/dev/zero", O_RDONLY), NULL, p[1], NULL, 70000, 0));
    R(splice(open("/dev/zero", O_RDONLY), NULL, p[1], NULL, 70000, SPLICE_F_NONBLOCK));
    R(splice(p[0], NULL, open("/dev/null", O_WRONLY), NULL, 1 << 20, 0));
    R(splice(eventfd(1, 0), NULL, p[1], NULL, 8, 0));
    close(p[1]);
    R(splice(p[0], NULL, q[1], NULL, 100, 0));
    R(tee(p[0], q[1], 100, 0));
    signal(SIGPIPE, SIG_IGN);
    close(q[0]);
    R(splice(file, &at, q[1], NULL, 1, 0));
    R(vmsplice(q[1], iov, 1, 0));
}

int main(void)
{
    begin();
    ep = epoll_create1(0);
    epoll_errors();
    epoll_modes();
    epoll_nested();
    epoll_waits();
    eventfds();
    timerfds();
    signalfds();
    splices();
    return 0;
}
