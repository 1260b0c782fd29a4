/* fork, pipe, dup2, waitpid, exec of itself, a pipeline of three, zombies and exit statuses. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t stage(int in, int out, int unused, int shift) {
    pid_t pid = fork();
    if (pid) return pid;
    if (unused >= 0) close(unused);
    dup2(in, 0), dup2(out, 1);
    close(in), close(out);
    for (char c; read(0, &c, 1) == 1;) {
        if (c >= 'a' && c <= 'z') c = (char)('a' + (c - 'a' + shift) % 26);
        if (write(1, &c, 1) != 1) _exit(1);
    }
    _exit(shift);
}

int main(int argc, char **argv) {
    int a[2], b[2], c[2], status, sum = 0;
    char text[64];
    if (argc > 1) {
        printf("executed with %s\n", argv[1]);
        return 42;
    }
    if (pipe(a) || pipe(b) || pipe(c)) return 1;
    stage(a[0], b[1], a[1], 1);
    close(a[0]), close(b[1]);
    stage(b[0], c[1], a[1], 2);
    close(b[0]), close(c[1]);
    if (write(a[1], "hello, pipeline\n", 16) != 16) return 1;
    close(a[1]);
    size_t n = 0;
    for (ssize_t k; (k = read(c[0], text + n, sizeof text - n)) > 0;) n += (size_t)k;
    printf("%.*s", (int)n, text);
    while (wait(&status) > 0) sum += WEXITSTATUS(status);
    printf("statuses %d, then %s\n", sum, strerror(errno));
    fflush(stdout);
    pid_t pid = fork();
    if (!pid) execl(argv[0], argv[0], "an argument", (char *)NULL), _exit(127);
    waitpid(pid, &status, 0);
    printf("exited %d\n", WEXITSTATUS(status));
    fflush(stdout);
    if (!(pid = fork())) for (;;) pause();
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    printf("killed by %d\n", WTERMSIG(status));
    volatile int variable = 1;
    if (!(pid = vfork())) variable = 2, _exit(5);
    waitpid(pid, &status, 0);
    printf("vfork %d %d\n", variable, WEXITSTATUS(status));
    return 0;
}
