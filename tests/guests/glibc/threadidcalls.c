/* Ids and nice values belong to threads: what raw calls change, and what the C library's do. Begins as root. */
#include "calls.h"
#include <sys/fsuid.h>

static int order[2][2]; /* pipes to and from the other thread */
static pid_t other, leader;

static void ids(const char *what)
{
    unsigned r, e, s, a, b, c;
    syscall(SYS_getresuid32, &r, &e, &s), syscall(SYS_getresgid32, &a, &b, &c);
    printf("%s: uid %u %u %u fs %ld, gid %u %u %u fs %ld, groups %ld, nice %ld\n", what, r, e, s, syscall(SYS_setfsuid32, -1), a, b, c,
           syscall(SYS_setfsgid32, -1), syscall(SYS_getgroups32, 0, NULL), 20 - syscall(SYS_getpriority, PRIO_PROCESS, 0));
}

static void turn(int to)
{
    char c = 0;
    write(order[to][1], &c, 1), read(order[!to][0], &c, 1);
}

static void *second(void *argument)
{
    gid_t groups[] = {5, 6, 7};
    char c;
    other = gettid();
    read(order[0][0], &c, 1);
    ids("second"), R(syscall(SYS_setgroups32, 3, groups)), R(syscall(SYS_setresgid32, 2001, 2002, 2003)), R(syscall(SYS_setpriority, PRIO_PROCESS, 0, 5)), R(syscall(SYS_setresuid32, 1001, 1002, 1003)), ids("second");
    R(open("secret", O_RDONLY)), R(mkdir("mine", 0700)), turn(1);
    ids("second"), R(syscall(SYS_setuid32, 0)), R(syscall(SYS_setreuid32, -1, 1003)), ids("second"), R(syscall(SYS_setfsuid32, 1001)), ids("second"), R(syscall(SYS_setgid32, 2003)), ids("second");
    R(syscall(SYS_kill, leader, 0)), R(syscall(SYS_tgkill, leader, leader, 0)), R(syscall(SYS_setpriority, PRIO_PROCESS, 0, 2)), R(syscall(SYS_setpriority, PRIO_PROCESS, leader, 8)), turn(1);
    ids("second"), R(chdir("mine")), turn(1);
    ids("second");
    execl("/proc/self/exe", "threadidcalls", "after", NULL);
    return argument;
}

static void *third(void *argument)
{
    ids("third");
    return argument;
}

int main(int argc, char **argv)
{
    pthread_t thread, more;
    struct stat st;
    setvbuf(stdout, NULL, _IONBF, 0);
    if (argc > 1) {
        ids("after"), R(getpid() == gettid()), R(getuid());
        return 0;
    }
    char directory[] = "/tmp/callsXXXXXX";
    umask(022), mkdtemp(directory), chdir(directory), chmod(".", 0777), close(open("secret", O_CREAT, 0600));
    setpgid(0, 0), setgroups(0, NULL), leader = getpid(), setpriority(PRIO_PROCESS, 0, 0);
    pipe(order[0]), pipe(order[1]), pthread_create(&thread, NULL, second, NULL);
    while (!other)
        usleep(1000);
    turn(0), ids("first"), R(close(open("secret", O_RDONLY))), R(stat("mine", &st)), R(st.st_uid), R(st.st_gid);
    R(getpriority(PRIO_PROCESS, other)), R(getpriority(PRIO_PROCESS, leader)), R(setpriority(PRIO_PROCESS, other, 3)), R(getpriority(PRIO_PGRP, 0)), R(setpriority(PRIO_PROCESS, 0, 4));
    pthread_create(&more, NULL, third, NULL), pthread_join(more, NULL);
    if (!fork())
        ids("child"), _exit(0);
    wait(NULL), turn(0);
    ids("first"), R(setresgid(2003, 2003, 2003)), ids("first"), turn(0);
    R(access("../secret", F_OK)), R(setpriority(PRIO_PGRP, 0, 6)), R(getpriority(PRIO_PROCESS, other)), R(getpriority(PRIO_PROCESS, 0)), R(setresuid(1003, 1003, 1003)), ids("first"), turn(0);
    return 1;
}
