/* Leases (F_SETLEASE) and directory notices (F_NOTIFY): who is told, who waits, who is refused. */
#include "calls.h"
#include <sys/ioctl.h>

static sigset_t set;

static void seen(const char *what)
{
    struct timespec none = {0, 0};
    siginfo_t info;
    int signo;
    printf("%s:", what);
    while ((signo = sigtimedwait(&set, &info, &none)) > 0) {
        printf(" %d/%d", signo, info.si_code);
        if (info.si_code > 0 && info.si_code < 0x80)
            printf("[%x fd %d]", (unsigned)info.si_band, info.si_fd);
    }
    puts("");
}
#define S(call) (R(call), seen("  told"))

static void rules(void)
{
    int r, w, p[2], status;
    close(open("plain", O_RDWR | O_CREAT, 0600));
    R(r = open("plain", O_RDONLY)), R(fcntl(r, F_GETLEASE)), R(fcntl(r, F_SETLEASE, F_UNLCK)), R(fcntl(r, F_SETLEASE, 9)), R(fcntl(r, F_SETLEASE, F_RDLCK)), R(fcntl(r, F_GETLEASE)), R(fcntl(r, F_GETOWN) == getpid());
    R(fcntl(r, F_SETLEASE, F_WRLCK)), R(fcntl(r, F_GETLEASE)), R(fcntl(r, F_SETLEASE, F_RDLCK)), R(fcntl(r, F_GETLEASE)), R(fcntl(r, F_SETSIG, SIGUSR1)), R(fcntl(r, F_SETLEASE, F_UNLCK)), R(fcntl(r, F_GETLEASE)), R(fcntl(r, F_GETOWN)), R(fcntl(r, F_GETSIG)), R(fcntl(r, F_SETLEASE, F_UNLCK));
    R(w = open("plain", O_RDWR)), R(fcntl(r, F_SETLEASE, F_RDLCK)), R(fcntl(w, F_SETLEASE, F_RDLCK)), R(fcntl(w, F_SETLEASE, F_WRLCK)), R(close(r)), R(fcntl(w, F_SETLEASE, F_RDLCK)), R(fcntl(w, F_SETLEASE, F_WRLCK)), R(fcntl(w, F_GETLEASE)), R(close(w));
    R(w = open("plain", O_WRONLY)), R(fcntl(w, F_SETLEASE, F_WRLCK)), R(fcntl(w, F_GETLEASE)), R(fcntl(dup(w), F_GETLEASE)), R(close(w)), R(close(w + 1));
    R(r = open("plain", O_RDONLY)), R(w = open("plain", O_RDONLY)), R(fcntl(r, F_SETLEASE, F_WRLCK)), R(fcntl(r, F_SETLEASE, F_RDLCK)), R(fcntl(w, F_SETLEASE, F_RDLCK)), R(fcntl(w, F_SETLEASE, F_WRLCK)), R(fcntl(w, F_GETLEASE)), R(fcntl(r, F_GETLEASE)), R(close(r)), R(close(w));
    R(r = open(".", O_RDONLY)), R(fcntl(r, F_SETLEASE, F_RDLCK)), R(fcntl(r, F_GETLEASE)), R(pipe(p)), R(fcntl(p[0], F_SETLEASE, F_RDLCK)), R(fcntl(p[0], F_GETLEASE));
    R(r = open("/dev/null", O_RDONLY)), R(fcntl(r, F_SETLEASE, F_RDLCK)), R(fcntl(r, F_SETLEASE, F_UNLCK));
    R(w = open("plain", O_RDWR)), R(fcntl(w, F_SETLEASE, F_WRLCK));
    if (!fork())
        _exit(fcntl(w, F_GETLEASE) * 10 + fcntl(w, F_SETLEASE, F_UNLCK));
    wait(&status), R(WEXITSTATUS(status)), R(fcntl(w, F_GETLEASE)), R(close(w));
}

static void breaks(void)
{
    int r, w, status;
    pid_t child;
    R(r = open("plain", O_RDONLY)), R(fcntl(r, F_SETLEASE, F_RDLCK)), S(close(open("plain", O_RDONLY))), S(open("plain", O_RDWR | O_NONBLOCK)), R(fcntl(r, F_GETLEASE)), S(open("plain", O_RDWR | O_NONBLOCK)), R(fcntl(r, F_SETLEASE, F_UNLCK)), S(close(open("plain", O_RDWR | O_NONBLOCK)));
    R(fcntl(r, F_SETSIG, SIGRTMIN + 1)), R(fcntl(r, F_SETLEASE, F_RDLCK)), S(open("plain", O_WRONLY | O_NONBLOCK | O_TRUNC)), R(fcntl(r, F_SETLEASE, F_RDLCK)), R(fcntl(r, F_GETLEASE)), R(close(r));
    R(w = open("plain", O_RDWR)), R(fcntl(w, F_SETSIG, SIGRTMIN + 2)), R(fcntl(w, F_SETLEASE, F_WRLCK));
    S(open("plain", O_RDONLY | O_NONBLOCK)), R(fcntl(w, F_GETLEASE)), S(open("plain", O_RDONLY | O_NONBLOCK)), S(open("plain", O_RDWR | O_NONBLOCK)), R(fcntl(w, F_GETLEASE)), R(fcntl(w, F_SETLEASE, F_RDLCK)), R(fcntl(w, F_GETLEASE)), R(fcntl(w, F_SETLEASE, F_UNLCK));
    R(close(w)), R(r = open("plain", O_RDONLY)), R(fcntl(r, F_SETSIG, SIGRTMIN + 3)), R(fcntl(r, F_SETLEASE, F_WRLCK)), S(open("plain", O_RDONLY | O_NONBLOCK)), R(fcntl(r, F_SETLEASE, F_RDLCK)), R(fcntl(r, F_GETLEASE)), S(close(open("plain", O_RDONLY | O_NONBLOCK)));
    S(open("plain", O_PATH | O_NONBLOCK) > 0), S(chmod("plain", 0644)), S(rename("plain", "other")), S(link("other", "plain")), S(unlink("other"));
    child = LATER(0, _exit(open("plain", O_WRONLY) > 0 ? 3 : 4));
    sigwaitinfo(&set, NULL), usleep(20000), R(waitpid(child, &status, WNOHANG)), R(fcntl(r, F_SETLEASE, F_UNLCK)), ended(child);
    R(fcntl(r, F_SETSIG, SIGRTMIN + 3)), R(fcntl(r, F_SETLEASE, F_WRLCK)), child = LATER(0, _exit(open("plain", O_RDONLY) > 0 ? 3 : 4));
    sigwaitinfo(&set, NULL), usleep(20000), R(waitpid(child, &status, WNOHANG)), R(fcntl(r, F_GETLEASE)), R(fcntl(r, F_SETLEASE, F_RDLCK)), ended(child), R(fcntl(r, F_GETLEASE));
    child = LATER(0, _exit(truncate("plain", 3) == 0 ? 3 : 4));
    sigwaitinfo(&set, NULL), usleep(20000), R(waitpid(child, &status, WNOHANG)), R(close(r)), ended(child);
    R(r = open("plain", O_RDONLY)), R(fcntl(r, F_SETLEASE, F_WRLCK));
    on(SIGALRM, 0), alarm(1), S(open("plain", O_RDONLY)), R(count), R(fcntl(r, F_GETLEASE)), R(close(r));
}

static void directories(void)
{
    int d, e, f, fd;
    R(mkdir("one", 0755)), R(mkdir("two", 0755)), R(d = open("one", O_RDONLY)), R(f = open("plain", O_RDONLY)), R(fcntl(f, F_NOTIFY, DN_CREATE)), R(fcntl(d, F_NOTIFY, 0)), R(fcntl(f, F_NOTIFY, 0));
    R(fcntl(d, F_NOTIFY, DN_CREATE)), R(fcntl(d, F_GETOWN) == getpid()), S(close(fd = open("one/a", O_CREAT | O_RDWR, 0600))), S(close(open("one/b", O_CREAT | O_RDWR, 0600)));
    R(fcntl(d, F_SETSIG, SIGRTMIN + 1)), R(fcntl(d, F_NOTIFY, DN_CREATE | DN_MULTISHOT)), S(mkdir("one/sub", 0755)), S(link("one/a", "one/c")), S(symlink("a", "one/l")), S(unlink("one/c"));
    R(fcntl(d, F_NOTIFY, DN_DELETE | DN_MULTISHOT)), S(unlink("one/l")), S(rmdir("one/sub")), S(open("one/d", O_CREAT | O_RDWR, 0600) > 0), R(fcntl(d, F_NOTIFY, 0)), S(unlink("one/d"));
    R(fcntl(d, F_NOTIFY, DN_RENAME | DN_MULTISHOT)), S(rename("one/a", "one/e")), S(rename("one/e", "two/e")), S(rename("two/e", "one/a")), R(fcntl(d, F_NOTIFY, 0));
    R(fcntl(d, F_NOTIFY, DN_CREATE | DN_MULTISHOT)), S(rename("one/a", "one/e")), S(rename("one/e", "two/e")), S(rename("two/e", "one/a")), R(fcntl(d, F_NOTIFY, 0));
    R(fcntl(d, F_NOTIFY, DN_DELETE | DN_MULTISHOT)), S(rename("one/a", "one/e")), S(rename("one/e", "two/e")), S(rename("two/e", "one/a")), R(fcntl(d, F_NOTIFY, 0));
    R(fcntl(d, F_NOTIFY, DN_MODIFY | DN_MULTISHOT)), R(fd = open("one/a", O_RDWR)), S(write(fd, "abc", 3)), S(ftruncate(fd, 0)), S(truncate("one/a", 10)), S(pread(fd, buffer, 3, 0)), S(fchmod(fd, 0644)), R(fcntl(d, F_NOTIFY, 0));
    R(fcntl(d, F_NOTIFY, DN_ACCESS | DN_MULTISHOT)), S(pread(fd, buffer, 3, 0)), S(read(fd, buffer, 100)), S(read(fd, buffer, 100)), S(write(fd, "x", 1)), R(fcntl(d, F_NOTIFY, 0));
    R(fcntl(d, F_NOTIFY, DN_ATTRIB | DN_MULTISHOT)), S(fchmod(fd, 0600)), S(chmod("one/a", 0644)), S(chmod("one", 0700)), S(utimensat(AT_FDCWD, "one/a", NULL, 0)), S(write(fd, "x", 1)), R(fcntl(d, F_NOTIFY, 0));
    R(fcntl(d, F_NOTIFY, DN_MODIFY)), R(fcntl(d, F_NOTIFY, DN_ATTRIB)), S(write(fd, "x", 1)), S(fchmod(fd, 0600)), S(fchmod(fd, 0644));
    R(e = open("one", O_RDONLY)), R(fcntl(e, F_SETSIG, SIGRTMIN + 2)), R(fcntl(e, F_NOTIFY, DN_MODIFY)), R(fcntl(d, F_NOTIFY, DN_MODIFY)), S(write(fd, "x", 1));
    R(fcntl(e, F_NOTIFY, DN_MODIFY)), R(close(dup(e))), S(write(fd, "x", 1)), R(fcntl(d, F_NOTIFY, DN_MODIFY | DN_MULTISHOT)), S(write(fd, "x", 1)), R(close(d)), S(write(fd, "x", 1));
}

int main(void)
{
    begin();
    sigemptyset(&set), sigaddset(&set, SIGIO), sigaddset(&set, SIGUSR1);
    for (int n = 0; n < 8; n++)
        sigaddset(&set, SIGRTMIN + n);
    sigprocmask(SIG_BLOCK, &set, NULL);
    rules(), seen("rules"), breaks(), directories();
    return 0;
}
