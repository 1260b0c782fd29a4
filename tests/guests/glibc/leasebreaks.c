/* Leases against execve(2) and truncate(2), and how long they may stand (/proc/sys/fs/lease-break-time). Begins as root. */
#include "calls.h"
#include <sys/sendfile.h>

#define TIME "/proc/sys/fs/lease-break-time"
static sigset_t set;
extern char **environ;

static void seen(const char *what)
{
    siginfo_t info;
    int signo;
    printf("%s:", what);
    while ((signo = sigtimedwait(&set, &info, &(struct timespec){0, 0})) > 0)
        printf(" %d/%d fd %d", signo - SIGRTMIN, info.si_code, info.si_fd);
    puts("");
}

static const char *limit(void)
{
    static char text[40];
    int fd = open(TIME, O_RDONLY), n = read(fd, text, sizeof text - 1);
    text[n < 1 ? 0 : n - 1] = 0;
    close(fd);
    return text;
}

static long put(const char *text)
{
    int fd = open(TIME, O_WRONLY), n = fd < 0 ? -1 : write(fd, text, strlen(text)), error = errno;
    close(fd), errno = error;
    return n;
}
#define P(text) (R(put(text)), printf("  is %s\n", limit()))

static void copy(const char *from, const char *to)
{
    struct stat s;
    int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT, 0755);
    fstat(in, &s);
    while (sendfile(out, in, NULL, s.st_size) > 0)
        ;
    close(in), close(out);
}

/* A child that executes `name`. */
static pid_t executes(const char *name)
{
    pid_t child = fork();
    if (!child) {
        sigprocmask(SIG_UNBLOCK, &set, NULL), close_range(3, 20, 0);
        execl(name, name, "executed", NULL);
        printf("execl: %s\n", strerrorname_np(errno)), _exit(9);
    }
    return child;
}

static int leased(const char *name, int flags, int type)
{
    int fd = open(name, flags | O_CLOEXEC);
    R(fcntl(fd, F_SETSIG, SIGRTMIN + 1)), R(fcntl(fd, F_SETLEASE, type));
    return fd;
}

static void waits(pid_t child)
{
    int status;
    sigwaitinfo(&set, NULL), usleep(50000), R(waitpid(child, &status, WNOHANG));
}

static void executions(void)
{
    int fd, child;
    fd = leased("program", O_RDONLY, F_WRLCK), child = executes("program"), waits(child), R(fcntl(fd, F_GETLEASE)), R(fcntl(fd, F_SETLEASE, F_RDLCK)), ended(child), R(fcntl(fd, F_GETLEASE));
    child = executes("program"), ended(child), seen("a read lease stands"), R(fcntl(fd, F_GETLEASE));
    R(fcntl(fd, F_SETLEASE, F_WRLCK)), child = executes("program"), waits(child), R(fcntl(fd, F_SETLEASE, F_UNLCK)), ended(child);
    R(fcntl(fd, F_SETSIG, SIGRTMIN + 1)), R(fcntl(fd, F_SETLEASE, F_WRLCK)), child = executes("program"), waits(child), R(close(fd)), ended(child);
    fd = leased("program", O_RDWR, F_WRLCK), child = executes("program"), waits(child), R(fcntl(fd, F_SETLEASE, F_RDLCK)), R(fcntl(fd, F_SETLEASE, F_UNLCK)), ended(child), close(fd);
    fd = leased("script", O_RDONLY, F_WRLCK), child = executes("script"), waits(child), R(fcntl(fd, F_SETLEASE, F_UNLCK)), ended(child), close(fd);
    fd = leased("program", O_RDONLY, F_WRLCK), child = executes("script"), waits(child), R(fcntl(fd, F_SETLEASE, F_UNLCK)), ended(child), close(fd);
    chmod("program", 0644), fd = leased("program", O_RDONLY, F_WRLCK), child = executes("program"), ended(child), seen("no program"), close(fd), chmod("program", 0755);
    fd = leased("program", O_RDONLY, F_WRLCK);
    if (!(child = fork())) {
        on(SIGALRM, 0), ualarm(300000, 0), R(execl("program", "program", "executed", NULL)), R(count);
        on(SIGALRM, SA_RESTART), ualarm(50000, 0), execl("program", "program", "executed", NULL), _exit(9);
    }
    waits(child), usleep(600000), R(waitpid(child, NULL, WNOHANG)), R(fcntl(fd, F_SETLEASE, F_RDLCK)), ended(child), close(fd);
    fd = leased("program", O_RDONLY, F_WRLCK);
    if (!(child = fork()))
        fcntl(fd, F_SETFD, 0), syscall(SYS_execveat, fd, "", (char *[]){"program", "executed", NULL}, environ, AT_EMPTY_PATH), _exit(9);
    waits(child), R(fcntl(fd, F_SETLEASE, F_RDLCK)), ended(child), close(fd);
    fd = open("program", O_RDONLY), child = fork();
    if (!child)
        execl("program", "program", "sleep", NULL);
    usleep(100000), R(fcntl(fd, F_SETLEASE, F_WRLCK)), R(fcntl(fd, F_SETLEASE, F_RDLCK)), kill(child, SIGKILL), ended(child), R(fcntl(fd, F_SETLEASE, F_WRLCK)), close(fd);
}

static void truncations(void)
{
    int fd, w, child;
    copy("script", "plain"), fd = leased("plain", O_RDONLY, F_RDLCK);
    child = LATER(0, _exit(truncate("plain", 3) == 0 ? 3 : 4)), waits(child), R(fcntl(fd, F_GETLEASE)), R(fcntl(fd, F_SETLEASE, F_RDLCK)), R(fcntl(fd, F_SETLEASE, F_UNLCK)), ended(child);
    R(fcntl(fd, F_SETSIG, SIGRTMIN + 1)), R(fcntl(fd, F_SETLEASE, F_WRLCK)), child = LATER(0, _exit(open("plain", O_WRONLY | O_TRUNC) >= 0 ? 3 : 4)), waits(child), R((int)lseek(fd, 0, SEEK_END)), R(fcntl(fd, F_SETLEASE, F_UNLCK)), ended(child), R((int)lseek(fd, 0, SEEK_END)), close(fd);
    w = leased("plain", O_RDWR, F_WRLCK), R(ftruncate(w, 7)), seen("its own"), R(fcntl(w, F_GETLEASE)), close(w);
    fd = leased("plain", O_RDONLY, F_WRLCK), child = LATER(0, on(SIGALRM, 0); ualarm(300000, 0); errno = 0; _exit(truncate("plain", 3) == 0 ? 3 : errno == EINTR ? 5 : 4)), waits(child), ended(child), R(fcntl(fd, F_GETLEASE)), close(fd);
}

static void times(void)
{
    struct timespec from, to;
    int fd, child, status;
    P("2"), fd = leased("plain", O_RDONLY, F_WRLCK), clock_gettime(CLOCK_MONOTONIC, &from), child = executes("program"), ended(child), seen("another file");
    child = LATER(0, _exit(open("plain", O_RDONLY) >= 0 ? 3 : 4)), ended(child), clock_gettime(CLOCK_MONOTONIC, &to), R(to.tv_sec - from.tv_sec >= 1 && to.tv_sec - from.tv_sec < 9), R(fcntl(fd, F_GETLEASE)), seen("broken"), close(fd);
    fd = leased("program", O_RDONLY, F_WRLCK), child = executes("program"), ended(child), R(fcntl(fd, F_GETLEASE)), close(fd), seen("executed");
    fd = leased("plain", O_RDONLY, F_RDLCK), child = LATER(0, _exit(truncate("plain", 1) == 0 ? 3 : 4)), ended(child), R(fcntl(fd, F_GETLEASE)), R(fcntl(fd, F_SETLEASE, F_UNLCK)), close(fd), seen("cut off");
    P("0"), fd = leased("plain", O_RDONLY, F_RDLCK), child = LATER(0, _exit(truncate("plain", 1) == 0 ? 3 : 4)), waits(child), sleep(3), R(waitpid(child, &status, WNOHANG)), R(fcntl(fd, F_GETLEASE)), P("1"), sleep(2), R(waitpid(child, &status, WNOHANG)), R(fcntl(fd, F_SETLEASE, F_UNLCK)), ended(child), close(fd);
}

static void texts(void)
{
    static const char *const all[] = {"7\n", " 8", "9 \t\n", "0x10\n", "010", "", "\n", " ", "x", "-", "13x", "+14", "-15", "2147483647", "2147483648", "-2147483648", "-2147483649", "99999999999999999999999", "16\v", "0x", "08"};
    struct stat s;
    int fd;
    stat(TIME, &s), R(s.st_mode), R((int)s.st_size);
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        long n = (errno = 0, put(all[i]));
        printf("%u: %s %s\n", i, n < 0 ? strerrorname_np(errno) : (sprintf(buffer, "%ld", n), buffer), limit());
    }
    R(put("45")), R(fd = open(TIME, O_RDWR | O_TRUNC) > 0);
    fd = open(TIME, O_RDWR), R(write(fd, "4", 1)), R(write(fd, "6", 1)), R(pread(fd, buffer, 10, 0)), R(pwrite(fd, "47", 2, 1)), R(pwrite(fd, "48", 2, 0)), R(lseek(fd, 0, SEEK_CUR)), printf("  is %s\n", limit()), R(ftruncate(fd, 0)), close(fd);
    R(put("45"));
    if (!fork()) {
        setgroups(0, NULL), setresgid(1000, 1000, 1000), setresuid(1000, 1000, 1000);
        R(open(TIME, O_WRONLY)), R(open(TIME, O_RDWR)), R(open(TIME, O_RDONLY) > 0), R(access(TIME, W_OK)), R(access(TIME, R_OK)), _exit(0);
    }
    wait(NULL), R(access(TIME, W_OK));
}

int main(int argc, char **argv)
{
    char directory[] = "/tmp/leasesXXXXXX";
    setvbuf(stdout, NULL, _IONBF, 0);
    if (argc > 1 && !strcmp(argv[argc - 1], "sleep"))
        pause();
    if (argc > 1)
        return usleep(100000), printf("executed as %d words\n", argc), 0;
    if (!mkdtemp(directory) || chdir(directory))
        return 98;
    for (int n = 0; n < 8; n++)
        sigaddset(&set, SIGRTMIN + n);
    sigprocmask(SIG_BLOCK, &set, NULL);
    copy("/proc/self/exe", "program");
    int fd = open("script", O_WRONLY | O_CREAT, 0755);
    dprintf(fd, "#!%s/program\n", directory), close(fd);
    flock(open(TIME, O_RDONLY | O_CLOEXEC), LOCK_EX); /* it is the whole machine's: one at a time */
    const char *before = strdup(limit());
    printf("%s\n", before), executions(), truncations(), texts(), times(), R(put(before) > 0);
    return 0;
}
