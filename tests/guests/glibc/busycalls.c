/* Programs that are executed and written at one time (ETXTBSY). */
#include "calls.h"

static void copy_self(const char *name, int *kept)
{
    int from = open("/proc/self/exe", O_RDONLY), to = open(name, O_WRONLY | O_CREAT, 0755);
    long n;
    while ((n = read(from, buffer, sizeof buffer)) > 0)
        if (write(to, buffer, n) != n)
            exit(97);
    close(from);
    *kept = to;
}

/* What executing it says: the error, or what it exits with. */
static int execute(const char *name)
{
    int status;
    pid_t pid = fork();
    if (!pid) {
        char *arguments[] = {(char *)name, "child", NULL};
        execv(name, arguments);
        printf("execv: %s\n", strerrorname_np(errno));
        _exit(1);
    }
    waitpid(pid, &status, 0);
    return WEXITSTATUS(status);
}

static void try_to_write(const char *name)
{
    R(close(open(name, O_WRONLY)));
    R(open(name, O_WRONLY));
    R(open(name, O_RDWR));
    R(open(name, O_RDONLY | O_TRUNC));
    R(open(name, O_WRONLY | O_CREAT | O_TRUNC, 0700));
    R(open(name, O_WRONLY | O_CREAT | O_EXCL, 0700));
    R(creat(name, 0700));
    R(truncate(name, 5));
    R(truncate(name, -1));
    R(access(name, W_OK));
    R(close(open(name, O_RDONLY)));
    R(close(open(name, O_PATH)));
    R(chmod(name, 0755));
}

int main(int argc, char **argv)
{
    int to, pipes[2], script;
    char byte;
    pid_t pid;
    if (argc > 1) {
        if (strcmp(argv[1], "child") == 0)
            return 42;
        write(1, "running\n", 8);
        write(4, "x", 1);
        read(3, &byte, 1);
        return 0;
    }
    begin();
    copy_self("busy", &to);
    R(execute("busy"));
    int copy = dup(to);
    close(to);
    R(execute("busy"));
    void *shown = mmap(NULL, 4096, PROT_READ, MAP_SHARED, copy, 0);
    printf("mapped without PROT_READ: %s\n", shown == MAP_FAILED ? strerrorname_np(errno) : "no error");
    close(copy);
    R(execute("busy"));

    int writable = open("busy", O_RDWR);
    shown = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, writable, 0);
    close(writable);
    R(execute("busy"));
    munmap(shown, 4096);
    R(execute("busy"));

    script = open("script", O_WRONLY | O_CREAT, 0755);
    write(script, "#!./busy child\n", 15);
    R(execute("script"));
    close(script);
    R(execute("script"));

    R(pipe(pipes));
    int back[2];
    R(pipe(back));
    pid = fork();
    if (!pid) {
        char *arguments[] = {"busy", "wait", NULL};
        int from = dup2(pipes[0], 20), ready = dup2(back[1], 21);
        dup2(from, 3);
        dup2(ready, 4);
        execv("busy", arguments);
        _exit(9);
    }
    read(back[0], &byte, 1);
    try_to_write("busy");
    R(rename("busy", "other"));
    try_to_write("other");
    R(execute("other"));
    R(truncate("other", 100));
    write(pipes[1], "x", 1);
    ended(pid);
    try_to_write("other");
    R(truncate("other", 100));
    return 0;
}
