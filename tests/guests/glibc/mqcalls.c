/* POSIX message queues by their system calls; futex_waitv, pkey_mprotect. */
#include "calls.h"
#include <linux/futex.h>
#include <mqueue.h>

#define OPEN(name, ...) syscall(SYS_mq_open, name, __VA_ARGS__)
#define SEND(q, text, n, prio, time) syscall(SYS_mq_timedsend, q, text, n, prio, time)
#define TAKE(q, n, prio, time) syscall(SYS_mq_timedreceive, q, buffer, n, prio, time)

static volatile int code, value;

static void informed(int signal, siginfo_t *info, void *context) { count++, code = info->si_code, value = info->si_value.sival_int; }

struct waiter {
    unsigned long long value, address;
    unsigned flags, reserved;
};

static void waiting(void)
{
    unsigned *words = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct waiter w[3] = {{0, (unsigned long)words, 2}, {0, (unsigned long)(words + 1), 2}, {0, (unsigned long)(words + 2), 2}};
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    long long until[2] = {now.tv_sec, now.tv_nsec}, wrong[2] = {0, 1000000000};
    R(syscall(449, w, 3, 0, until, CLOCK_MONOTONIC));
    R(syscall(449, w, 0, 0, NULL, 0));
    R(syscall(449, w, 129, 0, NULL, 0));
    R(syscall(449, w, 3, 1, NULL, 0));
    R(syscall(449, NULL, 3, 0, NULL, 0));
    R(syscall(449, 16, 3, 0, NULL, 0));
    R(syscall(449, w, 3, 0, until, 5));
    R(syscall(449, w, 3, 0, wrong, 1));
    R(syscall(449, w, 3, 0, 16, 1));
    w[1].value = 1;
    R(syscall(449, w, 3, 0, NULL, 0));
    w[1].value = 0, w[1].reserved = 1;
    R(syscall(449, w, 3, 0, NULL, 0));
    w[1].reserved = 0, w[1].flags = 1;
    R(syscall(449, w, 3, 0, NULL, 0));
    w[1].flags = 2, w[1].address++;
    R(syscall(449, w, 3, 0, NULL, 0));
    w[1].address += 0xfffffffffULL;
    R(syscall(449, w, 3, 0, NULL, 0));
    w[1].address = (unsigned long)(words + 1);
    for (int i = 0; i < 3; i++) {
        pid_t pid = LATER(30, syscall(SYS_futex, words + i, FUTEX_WAKE, 1, NULL, NULL, 0));
        R(syscall(449, w, 3, 0, NULL, 0));
        ended(pid);
    }
    pid_t me = getpid();
    on(SIGUSR1, 0);
    pid_t pid = LATER(30, kill(me, SIGUSR1));
    R(syscall(449, w, 3, 0, NULL, 0));
    ended(pid);
    R(syscall(380, words, 4096, PROT_READ, -1));
    R(read(open("/dev/zero", O_RDONLY), words, 4));
    R(syscall(380, words, 4096, PROT_READ, 5));
    R(syscall(380, (char *)words + 1, 4096, PROT_READ, -1));
}

int main(void)
{
    char name[30], other[30];
    struct mq_attr attr = {.mq_maxmsg = 3, .mq_msgsize = 20}, now;
    struct timespec wrong = {0, 1000000000}, soon;
    unsigned prio = 0;
    begin();
    sprintf(name, "calls%d", getpid()), sprintf(other, "other%d", getpid());
    R(OPEN(name, O_RDWR, 0, NULL));
    R(OPEN("", O_RDWR | O_CREAT, 0600, NULL));
    R(OPEN("a/b", O_RDWR | O_CREAT, 0600, NULL));
    R(OPEN("..", O_RDWR | O_CREAT, 0600, NULL));
    R(OPEN((char *)16, O_RDWR | O_CREAT, 0600, NULL));
    R(OPEN(name, O_RDWR | O_CREAT, 0600, 16));
    attr.mq_maxmsg = 0;
    R(OPEN(name, O_RDWR | O_CREAT, 0600, &attr));
    attr.mq_maxmsg = 11;
    R(OPEN(name, O_RDWR | O_CREAT, 0600, &attr));
    attr.mq_maxmsg = 3, attr.mq_msgsize = 8193;
    R(OPEN(name, O_RDWR | O_CREAT, 0600, &attr));
    attr.mq_msgsize = 20;
    int q = OPEN(name, O_RDWR | O_CREAT, 0600, &attr), r, w;
    R(q > 0);
    R(OPEN(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attr));
    R(fcntl(q, F_GETFD));
    r = OPEN(name, O_RDONLY | O_NONBLOCK, 0, NULL), w = OPEN(name, O_WRONLY | O_NONBLOCK, 0, NULL);
    R(SEND(q, "low", 3, 1, NULL)), R(SEND(q, "high", 4, 9, NULL)), R(SEND(q, "low too", 7, 1, NULL));
    R(SEND(w, "full", 4, 1, NULL));
    R(SEND(w, buffer, 21, 1, NULL));
    R(SEND(w, "x", 1, 32768, NULL));
    R(SEND(r, "x", 1, 1, NULL));
    R(SEND(0, "x", 1, 1, NULL));
    R(SEND(99, "x", 1, 1, NULL));
    R(SEND(w, (char *)16, 1, 1, NULL));
    R(SEND(w, "x", 1, 1, &wrong));
    R(SEND(w, "x", 1, 1, 16));
    clock_gettime(CLOCK_REALTIME, &soon);
    R(SEND(q, "x", 1, 1, &soon));
    struct pollfd poller = {q, POLLIN | POLLOUT};
    R(poll(&poller, 1, 0)), R(poller.revents);
    R(syscall(SYS_mq_getsetattr, q, NULL, &now));
    R(now.mq_flags), R(now.mq_maxmsg), R(now.mq_msgsize), R(now.mq_curmsgs);
    R(TAKE(q, 19, &prio, NULL));
    R(TAKE(w, 20, &prio, NULL));
    for (int i = 0; i < 3; i++) {
        memset(buffer, 0, 20);
        R(TAKE(q, 20, &prio, NULL));
        printf("%d %s\n", prio, buffer);
    }
    R(TAKE(r, 20, NULL, NULL));
    R(poll(&poller, 1, 0)), R(poller.revents);
    clock_gettime(CLOCK_REALTIME, &soon);
    R(TAKE(q, 20, NULL, &soon));
    long long wide[2] = {soon.tv_sec, soon.tv_nsec};
    R(syscall(419, q, buffer, 20, NULL, wide));
    R(syscall(418, q, "wide", 4, 3, NULL));
    R(syscall(419, q, buffer, 20, &prio, NULL)), R(prio);
    pid_t me = getpid(), pid = LATER(30, SEND(w, "late", 4, 2, NULL));
    R(TAKE(q, 20, &prio, NULL));
    ended(pid);
    on(SIGUSR1, 0);
    pid = LATER(30, kill(me, SIGUSR1));
    R(TAKE(q, 20, &prio, NULL));
    ended(pid);
    on(SIGUSR1, SA_RESTART);
    pid = LATER(30, (kill(me, SIGUSR1), usleep(30000), SEND(w, "again", 5, 2, NULL)));
    R(TAKE(q, 20, &prio, NULL));
    ended(pid);
    SEND(q, "1", 1, 0, NULL), SEND(q, "2", 1, 0, NULL), SEND(q, "3", 1, 0, NULL);
    pid = LATER(30, TAKE(r, 20, NULL, NULL));
    R(SEND(q, "4", 1, 0, NULL));
    ended(pid);
    while (TAKE(r, 20, NULL, NULL) >= 0)
        ;
    struct sigaction action = {.sa_sigaction = informed, .sa_flags = SA_SIGINFO};
    sigaction(SIGUSR2, &action, NULL);
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2, .sigev_value.sival_int = 42};
    count = 0;
    R(syscall(SYS_mq_notify, 0, &event));
    R(syscall(SYS_mq_notify, q, 16));
    R(syscall(SYS_mq_notify, q, &event));
    R(syscall(SYS_mq_notify, q, &event));
    R(SEND(q, "tell", 4, 0, NULL));
    R(count), R(code), R(value);
    R(syscall(SYS_mq_notify, q, &event));
    R(SEND(q, "not empty", 9, 0, NULL));
    R(count);
    R(syscall(SYS_mq_notify, q, NULL));
    event.sigev_signo = 65;
    R(syscall(SYS_mq_notify, q, &event));
    event.sigev_notify = 99;
    R(syscall(SYS_mq_notify, q, &event));
    now.mq_flags = O_NONBLOCK;
    R(syscall(SYS_mq_getsetattr, q, &now, NULL));
    R(fcntl(q, F_GETFL));
    now.mq_flags = 1;
    R(syscall(SYS_mq_getsetattr, q, &now, NULL));
    R(syscall(SYS_mq_getsetattr, 0, NULL, &now));
    R(syscall(SYS_mq_unlink, other));
    R(syscall(SYS_mq_unlink, name));
    R(OPEN(name, O_RDWR, 0, NULL));
    R(TAKE(q, 20, &prio, NULL));
    q = OPEN(other, O_RDWR | O_CREAT, 0200, NULL);
    R(OPEN(other, O_RDONLY, 0, NULL));
    R(syscall(SYS_mq_getsetattr, q, NULL, &now));
    R(now.mq_maxmsg), R(now.mq_msgsize);
    R(syscall(SYS_mq_unlink, other));
    waiting();
    return 0;
}
