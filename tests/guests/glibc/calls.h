/* What the programs that try system calls line by line share: each line tells a call, its result and its error. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void show(const char *what, long result)
{
    if (result < 0 && errno)
        printf("%s = %s\n", what, strerrorname_np(errno));
    else
        printf("%s = %ld\n", what, result);
}

#define R(call) (errno = 0, show(#call, (long)(call)))

static char big[1 << 20], buffer[1 << 20];
static volatile int count, last;

static void handler(int signal) { count++, last = signal; }

static void on(int signal, int flags)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    sigaction(signal, &action, NULL);
}

/* The end of a child: what wait(2) says of it. */
static void ended(pid_t pid)
{
    int status = 0;
    pid_t found;
    while ((found = waitpid(pid, &status, 0)) < 0 && errno == EINTR)
        ;
    printf("child: %s %d %d\n", found == pid ? "ended" : "not there", WIFEXITED(status) ? WEXITSTATUS(status) : -1,
           WIFSIGNALED(status) ? WTERMSIG(status) : 0);
}

/* A child that does `what` after `ms` milliseconds. */
#define LATER(ms, what)                                                                                                \
    ({                                                                                                                 \
        pid_t pid_ = fork();                                                                                           \
        if (!pid_) {                                                                                                   \
            usleep((ms) * 1000);                                                                                       \
            what;                                                                                                      \
            _exit(0);                                                                                                  \
        }                                                                                                              \
        pid_;                                                                                                          \
    })

static void begin(void)
{
    char directory[] = "/tmp/callsXXXXXX";
    setvbuf(stdout, NULL, _IONBF, 0);
    umask(022);
    if (!mkdtemp(directory) || chdir(directory))
        exit(98);
    if (geteuid() == 0 && (chown(".", 1000, 1000) || setgroups(0, NULL) || setresgid(1000, 1000, 1000) ||
                           setresuid(1000, 1000, 1000)))
        exit(99);
    prctl(PR_SET_DUMPABLE, 1); /* else /proc/self stays root's */
}
