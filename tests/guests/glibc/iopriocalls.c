/* I/O priorities of threads, and of all of a group or user. Begins as root. */
#include "calls.h"
#include <linux/ioprio.h>

#define GET(which, who) R(syscall(SYS_ioprio_get, IOPRIO_WHO_##which, who))
#define SET(which, who, class, level) R(syscall(SYS_ioprio_set, IOPRIO_WHO_##which, who, IOPRIO_PRIO_VALUE(class, level)))
static volatile int step, tid;

static void until(int n)
{
    while (step < n)
        usleep(1000);
}

static void *second(void *argument)
{
    tid = gettid(), GET(PROCESS, 0), SET(PROCESS, 0, 2, 6), GET(PROCESS, 0), GET(PROCESS, getpid()), step = 1, until(2);
    GET(PROCESS, 0), GET(PGRP, 0), step = 3, until(4);
    syscall(SYS_setresuid32, 700, 700, 700), GET(USER, 700), SET(USER, 700, 3, 0), SET(PROCESS, getpid(), 2, 1), SET(PROCESS, 0, 1, 0), SET(PROCESS, 0, 0, 0), GET(PROCESS, 0), GET(USER, 700);
    return NULL;
}

static int child(void *argument)
{
    GET(PROCESS, 0), SET(PROCESS, 0, 2, (int)(long)argument), GET(PROCESS, 0);
    return 0;
}

int main(int argc, char **argv)
{
    static char stack[1 << 16];
    pthread_t thread;
    siginfo_t info;
    int pid, n, values[] = {0, 1, 1 << 13, 1 << 13 | 7, 2 << 13, 2 << 13 | 7, 2 << 13 | 8, 2 << 13 | 0x1ff8, 3 << 13, 3 << 13 | 5, 4 << 13, 7 << 13, 1 << 16, 1 << 16 | 2 << 13 | 3, 1 << 13 | 8, -1, 8};
    setvbuf(stdout, NULL, _IONBF, 0);
    if (argc > 1)
        return GET(PROCESS, 0), 0;
    setpgid(0, 0);
    setpriority(PRIO_PROCESS, 0, 0), GET(PROCESS, 0), GET(PGRP, 0), setpriority(PRIO_PROCESS, 0, 10), GET(PROCESS, 0), GET(PGRP, 0), setpriority(PRIO_PROCESS, 0, -20), GET(PGRP, 0), setpriority(PRIO_PROCESS, 0, 0);
    for (unsigned k = 0; k < sizeof values / sizeof *values; k++)
        printf("%x: ", values[k]), R(syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, values[k])), GET(PROCESS, 0), GET(PGRP, 0);
    SET(PROCESS, 0, 2, 2), pthread_create(&thread, NULL, second, NULL), until(1);
    GET(PROCESS, tid), GET(PROCESS, 0), GET(PGRP, 0), SET(PGRP, 0, 2, 5), GET(PROCESS, 0), GET(PROCESS, tid), SET(PROCESS, tid, 2, 3), GET(PROCESS, 0), step = 2, until(3), SET(PROCESS, 0, 2, 7), step = 4, pthread_join(thread, NULL), usleep(50000);
    GET(PROCESS, tid), SET(PROCESS, tid, 2, 3), GET(PROCESS, 99999999), GET(PROCESS, -1), GET(PGRP, 99999999), GET(USER, 987654), GET(PGRP, -1), R(syscall(SYS_ioprio_get, 0, 0)), R(syscall(SYS_ioprio_get, 4, 0)), R(syscall(SYS_ioprio_set, 4, 0, 2 << 13)), R(syscall(SYS_ioprio_set, 4, 0, 8 << 13));
    SET(PROCESS, 0, 2, 1), pid = fork();
    if (!pid)
        child((void *)4), _exit(0);
    waitid(P_PID, pid, &info, WEXITED | WNOWAIT), GET(PROCESS, pid), SET(PROCESS, pid, 2, 3), ended(pid), GET(PROCESS, 0);
    for (n = 0; n < 2; n++)
        pid = clone(child, stack + sizeof stack, SIGCHLD | (n ? CLONE_IO : 0), (void *)(long)(5 + n)), ended(pid), GET(PROCESS, 0);
    if (!fork()) {
        setresgid(500, 500, 500), setresuid(500, 500, 500), GET(PROCESS, 0), SET(PROCESS, 0, 1, 3), SET(PROCESS, 0, 2, 3), GET(PROCESS, 0), GET(USER, 500), SET(PROCESS, getppid(), 2, 2), GET(PROCESS, getppid()), SET(PGRP, 0, 2, 4), SET(USER, 0, 3, 0);
        execl("/proc/self/exe", "x", "after", NULL);
    }
    wait(NULL), GET(PROCESS, 0);
    return 0;
}
