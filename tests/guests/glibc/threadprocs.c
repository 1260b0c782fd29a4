/* /proc/PID/task/TID: each thread's own ids, name, mask and priorities, and those that raw calls change. Begins as root. */
#include "calls.h"
#include <dirent.h>
#include <ctype.h>

static pthread_barrier_t together;
static pid_t tids[3];

/* The number of a thread, or the process, by its place here. */
static const char *who(long tid)
{
    static char text[20];
    for (int n = 0; n < 3; n++)
        if (tids[n] == tid)
            return sprintf(text, "t%d", n), text;
    return tid == getpid() ? "p" : tid == getppid() ? "parent" : tid == getpgrp() ? "group" : (sprintf(text, "%ld", tid), text);
}

static void status(const char *path)
{
    static const char *const shown[] = {"Name", "Umask", "State", "Tgid", "Pid", "PPid", "TracerPid", "Uid", "Gid", "Groups", "Threads", "SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt", "NoNewPrivs"};
    char line[500];
    FILE *f = fopen(path, "r");
    if (!f) {
        printf("  status: %s\n", strerrorname_np(errno));
        return;
    }
    while (fgets(line, sizeof line, f)) {
        char *value = strchr(line, ':');
        *value = 0, value += 2;
        for (unsigned n = 0; n < sizeof shown / sizeof *shown; n++)
            if (!strcmp(shown[n], line) && (!strcmp(line, "Tgid") || !strcmp(line, "Pid") || !strcmp(line, "PPid")))
                printf("  %s: %s\n", line, who(strtol(value, NULL, 10)));
            else if (!strcmp(shown[n], line))
                printf("  %s: %s", line, value);
    }
    fclose(f);
}

static void fields(const char *path)
{
    char line[1000];
    int fd = open(path, O_RDONLY), n = read(fd, line, sizeof line - 1);
    long v[22];
    if (fd < 0)
        return;
    close(fd), line[n < 0 ? 0 : n] = 0;
    char *end = strrchr(line, ')'), *at = end + 2;
    printf("  stat: %s %.*s %c", who(strtol(line, NULL, 10)), (int)(end - strchr(line, '(')) + 1, strchr(line, '('), *at++);
    for (int k = 4; k < 22; k++)
        v[k] = strtol(at, &at, 10);
    printf(" parent %s group %d session %d priority %ld nice %ld threads %ld\n", who(v[4]), v[5] == getpgrp(), v[6] == getsid(0), v[18], v[19], v[20]);
}

static void owner(const char *path)
{
    struct stat s;
    if (lstat(path, &s))
        printf("  %s: %s\n", isdigit(strrchr(path, '/')[1]) ? "directory" : strrchr(path, '/'), strerrorname_np(errno));
    else
        printf("  %s: %o of %d %d\n", isdigit(strrchr(path, '/')[1]) ? "directory" : strrchr(path, '/'), s.st_mode, s.st_uid, s.st_gid);
}

static void look(const char *what, const char *directory)
{
    char path[200];
    printf("%s\n", what), owner(directory);
    snprintf(path, sizeof path, "%s/status", directory), status(path), owner(path);
    snprintf(path, sizeof path, "%s/stat", directory), fields(path);
    snprintf(path, sizeof path, "%s/comm", directory), owner(path);
    snprintf(path, sizeof path, "%s/task", directory), owner(path);
}

static void look_at(const char *what, int n)
{
    char path[100];
    snprintf(path, sizeof path, "/proc/%d/task/%d", getpid(), tids[n]), look(what, path);
}

static void *other(void *argument)
{
    int n = (int)(long)argument;
    gid_t groups[] = {50 + n, 60 + n};
    sigset_t set;
    char name[20];
    tids[n] = gettid(), sprintf(name, "other (%d)", n), prctl(PR_SET_NAME, name);
    sigemptyset(&set), sigaddset(&set, SIGRTMIN + n), pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (n == 2)
        unshare(CLONE_FS), umask(077);
    syscall(SYS_setgroups32, 2, groups), syscall(SYS_setpriority, PRIO_PROCESS, 0, n * 3);
    pthread_barrier_wait(&together), pthread_barrier_wait(&together); /* the first has looked */
    if (n == 1)
        syscall(SYS_setresgid32, 201, 202, 203), syscall(SYS_setresuid32, 101, 102, 103), prctl(PR_SET_DUMPABLE, 1);
    pthread_barrier_wait(&together), pthread_barrier_wait(&together);
    if (n == 1)
        look("itself, thread 1", "/proc/thread-self");
    pthread_barrier_wait(&together);
    if (n == 2)
        return NULL;
    while (!count)
        usleep(1000);
    if (n == 1) {
        usleep(100000), look_at("a first thread that has ended", 0), look("and its process", "/proc/self");
        exit(0);
    }
    return NULL;
}

int main(void)
{
    char directory[] = "/tmp/callsXXXXXX", path[100];
    pthread_t threads[2];
    struct dirent *entry;
    int n = 0, fd, fds;
    prctl(PR_SET_NAME, "first");
    setvbuf(stdout, NULL, _IONBF, 0), setgroups(0, NULL), umask(022), mkdtemp(directory), chdir(directory);
    setpriority(PRIO_PROCESS, 0, 1), tids[0] = getpid(), pthread_barrier_init(&together, NULL, 3), on(SIGTERM, 0), signal(SIGHUP, SIG_IGN);
    for (long k = 1; k < 3; k++)
        pthread_create(&threads[k - 1], NULL, other, (void *)k);
    pthread_barrier_wait(&together), usleep(50000);
    look_at("first", 0), look_at("thread 1", 1), look_at("thread 2", 2);
    tgkill(getpid(), tids[1], SIGRTMIN + 1), tgkill(getpid(), tids[2], SIGRTMIN + 2);
    pthread_barrier_wait(&together), pthread_barrier_wait(&together), usleep(50000);
    look_at("first, where thread 1 has other ids", 0), look_at("thread 1 with them", 1), look_at("thread 2", 2);
    sprintf(path, "/proc/%d", tids[1]), look("by the thread's number", path);
    DIR *d = opendir((sprintf(path, "/proc/%d/task", getpid()), path));
    while ((entry = readdir(d)))
        n += entry->d_name[0] != '.';
    R(n), n = 0, closedir(d), d = opendir("/proc");
    while ((entry = readdir(d)))
        n += atoi(entry->d_name) == tids[1];
    R(n), closedir(d);
    struct stat a, b, c;
    sprintf(path, "/proc/self/task/%d", tids[0]), stat(path, &a), stat("/proc/self", &b), sprintf(path, "/proc/self/task/%d", tids[1]), stat(path, &c), R(a.st_ino != b.st_ino), R(a.st_ino != c.st_ino);
    sprintf(path, "/proc/self/task/%d/status", tids[2]), fd = open(path, O_RDONLY), sprintf(path, "/proc/self/task/%d", tids[2]), fds = open(path, O_RDONLY | O_DIRECTORY);
    sprintf(path, "/proc/%d/task/%d/comm", tids[1], tids[2]), R(open(path, O_RDONLY) > 0), R(open("/proc/01/status", O_RDONLY)), R(open("/proc/self/task/0/status", O_RDONLY));
    pthread_barrier_wait(&together);
    pthread_barrier_wait(&together), pthread_join(threads[1], NULL), usleep(50000), R(read(fd, buffer, 100)), R(openat(fds, "status", O_RDONLY)), look_at("thread 2, ended", 2);
    count = 1, pthread_exit(NULL);
}
