/* Set-user-ID and set-group-ID programs: what ids they run with, and who does not get them. Begins as root. */
#include "calls.h"
#include <sys/auxv.h>
#include <sys/fsuid.h>
#include <sys/ptrace.h>

static char program[100];

static void ids(const char *what)
{
    uid_t r, e, s;
    gid_t a, b, c;
    getresuid(&r, &e, &s), getresgid(&a, &b, &c);
    printf("%s: uid %d %d %d fs %d, gid %d %d %d fs %d, secure %ld, dumpable %d\n", what, r, e, s, setfsuid(-1), a, b, c, setfsgid(-1),
           getauxval(AT_SECURE), prctl(PR_GET_DUMPABLE));
}

static void copy(const char *to, int uid, int gid, int mode)
{
    int from = open("/proc/self/exe", O_RDONLY), fd = open(to, O_CREAT | O_TRUNC | O_WRONLY, 0755);
    for (long n; (n = read(from, buffer, sizeof buffer)) > 0;)
        write(fd, buffer, n);
    close(fd), close(from);
    chown(to, uid, gid), chmod(to, mode);
}

enum { PLAIN, NO_NEW, TRACED, EFFECTIVE, SCRIPT, DESCRIPTOR };

static void run(const char *what, int mode, int how)
{
    printf("-- %s %o\n", what, mode);
    copy(program, 4242, 4343, mode);
    pid_t pid = fork();
    if (pid) {
        int status;
        while (waitpid(pid, &status, 0) == pid && WIFSTOPPED(status))
            ptrace(PTRACE_CONT, pid, NULL, NULL);
        printf("end %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
        return;
    }
    setresgid(1000, how == EFFECTIVE ? 1001 : 1000, 1000), setresuid(1000, how == EFFECTIVE ? 1001 : 1000, how == EFFECTIVE ? 1002 : 1000);
    ids("before");
    if (how == NO_NEW)
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (how == TRACED)
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    if (how == SCRIPT)
        execl("script", "script", NULL);
    else if (how == DESCRIPTOR)
        fexecve(open(program, O_RDONLY), (char *[]){"program", "after", NULL}, environ);
    else
        execl(program, "program", "after", NULL);
    printf("no exec: %s\n", strerrorname_np(errno));
    _exit(9);
}

int main(int argc, char **argv)
{
    setbuf(stdout, NULL);
    if (argc > 1) {
        ids("after");
        R(setuid(1000)), ids("given up"), R(seteuid(4242)), ids("taken back");
        R(access("secret", R_OK)), R(open("secret", O_RDONLY) >= 0);
        return 5;
    }
    char directory[] = "/tmp/setidcalls.XXXXXX";
    if (!mkdtemp(directory) || chdir(directory))
        return 1;
    chmod(directory, 0755);
    sprintf(program, "%s/program", directory);
    int fd = open("secret", O_CREAT | O_WRONLY, 0600), script = open("script", O_CREAT | O_WRONLY, 0755);
    fchown(fd, 4242, 0), dprintf(script, "#!%s after\n", program), close(script), chown("script", 4545, 4646), chmod("script", 06755);
    for (int mode = 0; mode < 4; mode++)
        run("plain", 0755 | mode << 10, PLAIN);
    run("no execution by the group", 06745, PLAIN), run("no execution at all", 06644, PLAIN);
    run("no new privileges", 06755, NO_NEW);
    run("other effective ids", 0755, EFFECTIVE), run("other effective ids", 04755, EFFECTIVE);
    run("a script", 06755, SCRIPT), run("a script", 0755, SCRIPT), run("a descriptor", 06755, DESCRIPTOR);
    copy(program, 0, 0, 04755);
    run("not by its owner", 02755, PLAIN);
    return 0;
}
