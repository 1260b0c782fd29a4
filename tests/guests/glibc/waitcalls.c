/* Calls that wait: pipes with several writers, polling, sleeping, each interrupted by a handler, a stop, a timeout. */
#include "calls.h"

static int p[2];
static long long started;

static long long now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static void atomic_writers(void)
{
    int torn = 0, got = 0, fill = 0;
    pipe(p);
    for (int w = 0; w < 3; w++)
        if (!fork()) {
            memset(big, 'a' + w, 4096);
            for (int i = 0; i < 40; i++)
                write(p[1], big, 1000 + 1000 * w);
            _exit(0);
        }
    close(p[1]);
    while (fill < 240000) {
        int n = read(p[0], buffer + fill, 7777);
        if (n <= 0)
            break;
        fill += n;
    }
    for (int at = 0; at < fill; got++) {
        int size = 1000 * (buffer[at] - 'a' + 1);
        for (int i = 0; i < size; i++)
            torn += buffer[at + i] != buffer[at];
        at += size;
    }
    R(torn);
    R(fill);
    R(got);
    while (wait(NULL) > 0)
        ;
    R(read(p[0], buffer, 1));
    close(p[0]);
}

static void big_transfers(void)
{
    pipe(p);
    R(fcntl(p[1], F_SETPIPE_SZ, 1 << 20));
    R(write(p[1], big, 1 << 20));
    R(read(p[0], buffer, 1 << 20));
    int fd = open("/dev/zero", O_RDWR);
    R(read(fd, buffer, 1 << 20));
    R(write(fd, big, 1 << 20));
    close(fd), close(p[0]), close(p[1]);
    pipe(p);
    on(SIGUSR1, SA_RESTART);
    pid_t me = getpid();
    struct iovec iov[3] = {{big, 50000}, {big, 50000}, {big, 1}};
    pid_t pid = LATER(50, kill(me, SIGUSR1));
    R(writev(p[1], iov, 3));
    ended(pid);
    R(read(p[0], buffer, 1 << 20));
    pid = LATER(50, kill(me, SIGUSR1));
    R(write(p[1], big, 65536));
    ended(pid);
    on(SIGUSR1, 0);
    pid = LATER(50, kill(me, SIGUSR1));
    R(write(p[1], big, 10));
    ended(pid);
    R(read(p[0], buffer, 4095));
    fcntl(p[1], F_SETFL, O_NONBLOCK);
    R(write(p[1], big, 10));
    R(read(p[0], buffer, 1));
    R(write(p[1], big, 5000));
    R(write(p[1], big, 4096));
    fcntl(p[1], F_SETFL, 0);
    signal(SIGPIPE, SIG_IGN);
    pid = fork();
    if (!pid) {
        close(p[0]);
        R(write(p[1], big, 100000));
        signal(SIGPIPE, SIG_DFL);
        R(write(p[1], big, 1));
        _exit(0);
    }
    usleep(50000);
    close(p[0]);
    ended(pid);
    close(p[1]);
}

static void interrupted(int flags)
{
    pid_t me = getpid(), pid;
    struct timespec t = {2, 0}, left = {9, 9};
    struct timeval tv = {2, 0};
    struct pollfd fd;
    sigset_t empty, usr2;
    fd_set set;
    printf("flags %x\n", flags);
    on(SIGUSR1, flags);
    sigemptyset(&empty), sigemptyset(&usr2), sigaddset(&usr2, SIGUSR2);
    pipe(p);
    fd = (struct pollfd){p[0], POLLIN, 0};
    count = 0;
    pid = LATER(50, (kill(me, SIGUSR1), usleep(50000), flags && write(p[1], "x", 1)));
    R(read(p[0], buffer, 5));
    ended(pid);
    pid = LATER(50, kill(me, SIGUSR1));
    R(poll(&fd, 1, -1));
    ended(pid);
    pid = LATER(50, kill(me, SIGUSR1));
    FD_ZERO(&set);
    FD_SET(p[0], &set);
    R(select(p[0] + 1, &set, NULL, NULL, &tv));
    R(tv.tv_sec == 1);
    ended(pid);
    pid = LATER(50, kill(me, SIGUSR1));
    R(nanosleep(&t, &left));
    R(left.tv_sec == 1);
    ended(pid);
    pid = LATER(50, kill(me, SIGUSR1));
    R(syscall(SYS_ppoll, &fd, 1, &t, &usr2, 8));
    ended(pid);
    t = (struct timespec){2, 0};
    sigprocmask(SIG_BLOCK, &usr2, NULL);
    on(SIGUSR2, flags);
    pid = LATER(50, kill(me, SIGUSR2));
    R(ppoll(&fd, 1, &t, &empty));
    R(last == SIGUSR2);
    ended(pid);
    pid = LATER(50, kill(me, SIGUSR2));
    R(sigsuspend(&empty));
    ended(pid);
    pid = LATER(50, kill(me, SIGUSR1));
    R(sigtimedwait(&usr2, NULL, &t));
    ended(pid);
    pid = LATER(50, kill(me, SIGUSR2));
    R(sigtimedwait(&usr2, NULL, NULL));
    ended(pid);
    pid = LATER(100, (void)0);
    pid_t other = LATER(30, kill(me, SIGUSR1));
    R(waitpid(pid, NULL, 0) == pid);
    ended(other);
    waitpid(pid, NULL, 0);
    int word = 0;
    pid = LATER(50, kill(me, SIGUSR1));
    t = (struct timespec){2, 0};
    R(syscall(SYS_futex, &word, 0, 0, &t, NULL, 0));
    ended(pid);
    pid = LATER(50, kill(me, SIGUSR1));
    R(pause());
    ended(pid);
    unlink("fifo");
    mkfifo("fifo", 0600);
    pid = LATER(50, (kill(me, SIGUSR1), usleep(50000), open("fifo", O_WRONLY | O_NONBLOCK)));
    int fifo = -1;
    R((fifo = open("fifo", O_RDONLY)) >= 0);
    close(fifo);
    ended(pid);
    sigprocmask(SIG_UNBLOCK, &usr2, NULL);
    R(count);
    close(p[0]), close(p[1]);
}

/* A child is stopped and continued while it waits; each call goes on or fails as signal(7) says. */
static void stopped(void)
{
    struct timespec t = {0, 400000000};
    struct pollfd fd;
    sigset_t set;
    pipe(p);
    fd = (struct pollfd){p[0], POLLIN, 0};
    sigemptyset(&set), sigaddset(&set, SIGUSR2);
    for (int which = 0; which < 6; which++) {
        pid_t pid = fork();
        if (!pid) {
            started = now();
            switch (which) {
            case 0: R(nanosleep(&t, NULL)); break;
            case 1: R(poll(&fd, 1, 400)); break;
            case 2: R(sigtimedwait(&set, NULL, &t)), usleep(200000); break;
            case 3: R(read(p[0], buffer, 1)); break;
            case 4: R(ppoll(&fd, 1, &t, &set)); break;
            case 5: R(syscall(SYS_futex, &which, 0, 5, &t, NULL, 0)); break;
            }
            printf("long enough %d\n", which == 2 || which == 3 || now() - started >= 395);
            _exit(0);
        }
        int status;
        usleep(40000);
        kill(pid, SIGSTOP);
        waitpid(pid, &status, WUNTRACED);
        printf("%d stopped %d\n", which, WIFSTOPPED(status) ? WSTOPSIG(status) : 0);
        kill(pid, SIGCONT);
        waitpid(pid, &status, WCONTINUED);
        printf("%d continued %d\n", which, WIFCONTINUED(status));
        if (which == 3)
            write(p[1], "x", 1);
        ended(pid);
    }
    close(p[0]), close(p[1]);
}

static void polling(void)
{
    struct pollfd fds[4];
    struct timeval none = {0, 0}, odd = {0, 1500000}, bad = {0, -1};
    fd_set in, out;
    int file = open("plain", O_RDWR | O_CREAT, 0600), directory = open(".", O_RDONLY);
    pipe(p);
    fds[0] = (struct pollfd){p[0], POLLIN | POLLOUT, 0}, fds[1] = (struct pollfd){p[1], POLLIN | POLLOUT, 0};
    fds[2] = (struct pollfd){file, POLLIN | POLLOUT | POLLPRI, 0}, fds[3] = (struct pollfd){directory, POLLIN, 0};
    R(poll(fds, 4, 0));
    printf("%x %x %x %x\n", fds[0].revents, fds[1].revents, fds[2].revents, fds[3].revents);
    write(p[1], "x", 1);
    close(p[1]);
    R(poll(fds, 4, 0));
    printf("%x %x %x %x\n", fds[0].revents, fds[1].revents, fds[2].revents, fds[3].revents);
    read(p[0], buffer, 10);
    fds[0].events = 0;
    R(poll(fds, 1, 0));
    printf("%x\n", fds[0].revents);
    FD_ZERO(&in);
    FD_ZERO(&out);
    FD_SET(p[0], &in);
    FD_SET(file, &in);
    FD_SET(file, &out);
    R(select(file + 1, &in, &out, &out, &none));
    R(select(1024, &in, NULL, NULL, &odd));
    R(select(-1, &in, NULL, NULL, &none));
    R(select(file + 1, &in, NULL, NULL, &bad));
    FD_SET(40, &in);
    R(select(41, &in, NULL, NULL, &none));
    R(select(1000000, NULL, NULL, NULL, &none));
    R(poll(fds, 100000000, 0));
    close(p[0]);
    pipe(p);
    close(p[0]);
    fds[0] = (struct pollfd){p[1], POLLOUT, 0};
    R(poll(fds, 1, 0));
    printf("%x\n", fds[0].revents);
    close(p[1]), close(file), close(directory);
}

int main(void)
{
    begin();
    atomic_writers();
    big_transfers();
    interrupted(0);
    interrupted(SA_RESTART);
    stopped();
    polling();
    return 0;
}
