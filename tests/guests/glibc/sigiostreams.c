/* Signals for the standard streams (O_ASYNC), which somebody outside reads and writes: what is told goes to standard error. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

static sigset_t set;
static char big[300000];

static void told(const char *what)
{
    siginfo_t info;
    int signo = sigtimedwait(&set, &info, &(struct timespec){20, 0});
    fprintf(stderr, "%s: %d", what, signo < 0 ? -errno : signo - SIGRTMIN);
    if (signo > 0)
        fprintf(stderr, " %d %lx fd %d", info.si_code, info.si_band, info.si_fd);
    fprintf(stderr, "\n");
}

static void quiet(const char *what)
{
    int n = 0;
    while (sigtimedwait(&set, NULL, &(struct timespec){0, 0}) > 0)
        n++;
    fprintf(stderr, "%s: %s\n", what, n ? "told" : "quiet");
}

static void come(const char *what)
{
    char data[100];
    int n;
    told(what), n = read(0, data, sizeof data), quiet("one signal");
    fprintf(stderr, n ? "%.*s" : "the end\n", n, data);
}

int main(void)
{
    struct pollfd in = {0, POLLIN};
    setvbuf(stderr, NULL, _IONBF, 0);
    sigemptyset(&set), sigaddset(&set, SIGRTMIN), sigaddset(&set, SIGRTMIN + 1), sigprocmask(SIG_BLOCK, &set, NULL);
    fprintf(stderr, "%d", fcntl(0, F_SETFL, O_ASYNC | O_NONBLOCK)), fprintf(stderr, " %x", fcntl(0, F_GETFL));
    fprintf(stderr, " %d %d\n", fcntl(0, F_SETOWN, getpid()), fcntl(0, F_SETSIG, SIGRTMIN));
    quiet("nothing yet");
    write(1, "one\n", 4), come("one");
    write(1, "two\n", 4), come("two");
    fcntl(0, F_SETFL, O_NONBLOCK), write(1, "three\n", 6), fprintf(stderr, "%d", poll(&in, 1, 20000)), usleep(50000);
    while (read(0, big, sizeof big) > 0)
        usleep(10000);
    quiet(" three"), fcntl(0, F_SETFL, O_ASYNC | O_NONBLOCK), quiet("again"), write(1, "four\n", 5), come("four");
    fcntl(1, F_SETOWN, getpid()), fcntl(1, F_SETSIG, SIGRTMIN + 1), fprintf(stderr, "%d\n", fcntl(1, F_SETFL, O_ASYNC));
    write(1, "-\n", 2), told("it was read");
    memset(big, '-', sizeof big), write(1, big, sizeof big), write(1, "\n", 1), told("all was read");
    fprintf(stderr, "%d\n", ioctl(1, FIOASYNC, &(int){0})), usleep(100000);
    while (sigtimedwait(&set, NULL, &(struct timespec){0, 0}) > 0)
        ;
    write(1, "-\n", 2), usleep(50000), quiet("no more");
    write(1, "end\n", 4), come("end");
    return 0;
}
