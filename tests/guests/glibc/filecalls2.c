/* Files, descriptors and directories: what happens at limits, after unlink and rename, across fork and exec. */
#include "calls.h"

static void limits(void)
{
    struct rlimit nofile = {5, 1024}, fsize = {5000, RLIM_INFINITY};
    int fd = open("limited", O_RDWR | O_CREAT, 0600);
    pid_t pid = fork();
    if (!pid) {
        setrlimit(RLIMIT_NOFILE, &nofile);
        R(dup(fd));
        R(open("never", O_CREAT | O_RDWR, 0600));
        R(open("limited", O_TRUNC | O_RDWR, 0600));
        R(access("never", F_OK));
        R(open("", O_RDWR));
        R(dup2(fd, 5));
        R(dup2(fd, 4));
        R(fcntl(fd, F_DUPFD, 5));
        R(pipe((int *)buffer));
        _exit(0);
    }
    ended(pid);
    pid = fork();
    if (!pid) {
        on(SIGXFSZ, 0);
        setrlimit(RLIMIT_FSIZE, &fsize);
        R(write(fd, big, 6000));
        R(write(fd, big, 6000));
        R(count);
        R(pwrite(fd, big, 100, 4950));
        R(ftruncate(fd, 6000));
        R(ftruncate(fd, 4000));
        R(truncate("limited", 7000));
        R(fallocate(fd, 0, 0, 8000));
        R(count);
        R(lseek(fd, 0, SEEK_END));
        signal(SIGXFSZ, SIG_DFL);
        R(ftruncate(fd, 6000));
        _exit(1);
    }
    ended(pid);
}

static void shared_offsets(void)
{
    int fd = open("shared", O_RDWR | O_CREAT | O_APPEND, 0600), other = dup(fd);
    R(write(fd, "0123456789", 10));
    R(lseek(fd, 3, SEEK_SET));
    R(lseek(other, 0, SEEK_CUR));
    pid_t pid = fork();
    if (!pid) {
        R(read(fd, buffer, 2));
        R(fcntl(fd, F_SETFL, 0));
        _exit(0);
    }
    ended(pid);
    R(lseek(fd, 0, SEEK_CUR));
    R(fcntl(other, F_GETFL));
    R(write(fd, "xy", 2));
    R(pread(fd, buffer, 20, 0));
    printf("%.10s\n", buffer);
    R(flock(fd, LOCK_EX));
    R(close(fd));
    fd = open("shared", O_RDWR);
    R(flock(fd, LOCK_EX | LOCK_NB));
    R(close(other));
    R(flock(fd, LOCK_EX | LOCK_NB));
    R(unlink("shared"));
    R(write(fd, "gone", 4));
    struct stat s;
    fstat(fd, &s);
    printf("links %d size %d\n", (int)s.st_nlink, (int)s.st_size);
    sprintf(buffer, "/proc/self/fd/%d", fd);
    int n = readlink(buffer, big, 1000);
    big[n > 0 ? n : 0] = 0;
    printf("%s\n", strrchr(big, '/') ?: big);
    int again = open(buffer, O_RDONLY);
    R(read(again, buffer, 4));
    printf("%.4s\n", buffer);
    R(linkat(AT_FDCWD, buffer, AT_FDCWD, "back", AT_SYMLINK_FOLLOW));
    close(fd), close(again);
    fd = open(".", O_TMPFILE | O_RDWR, 0600);
    if (fd >= 0) {
        R(write(fd, "tmp", 3));
        sprintf(buffer, "/proc/self/fd/%d", fd);
        R(linkat(AT_FDCWD, buffer, AT_FDCWD, "named", AT_SYMLINK_FOLLOW));
        R(access("named", R_OK));
    }
    close(fd);
}

static void across_exec(char *self)
{
    int kept = open("kept", O_RDWR | O_CREAT, 0600), lost = open("lost", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    char a[12], b[12];
    sprintf(a, "%d", kept), sprintf(b, "%d", lost);
    pid_t pid = fork();
    if (!pid) {
        char *argv[] = {self, "exec", a, b, NULL}, *envp[] = {NULL};
        on(SIGUSR1, 0);
        signal(SIGUSR2, SIG_IGN);
        sigset_t set;
        sigemptyset(&set), sigaddset(&set, SIGTERM);
        sigprocmask(SIG_BLOCK, &set, NULL);
        raise(SIGTERM);
        umask(027);
        execve("/proc/self/exe", argv, envp);
        _exit(9);
    }
    ended(pid);
    pid = fork();
    if (!pid) {
        char *none[] = {NULL};
        syscall(SYS_execve, "/proc/self/exe", none, none);
        _exit(9);
    }
    ended(pid);
    char *argv[] = {"x", NULL};
    int fd = open("script", O_WRONLY | O_CREAT, 0700);
    write(fd, "#!/nothing here\n", 16), close(fd);
    R(execve("script", argv, argv + 1));
    fd = open("text", O_WRONLY | O_CREAT, 0700);
    write(fd, "plain\n", 6), close(fd);
    R(execve("text", argv, argv + 1));
    R(execve(".", argv, argv + 1));
    R(execve("kept", argv, argv + 1));
    R(execve("absent", argv, argv + 1));
    R(execve("text/x", argv, argv + 1));
    R(execve((char *)1, argv, argv + 1));
    R(syscall(SYS_execve, "text", 8, 0));
    R(chmod("text", 0));
    R(execve("text", argv, argv + 1));
    fd = open("empty", O_WRONLY | O_CREAT, 0700), close(fd);
    R(execve("empty", argv, argv + 1));
    R(symlink("loop", "loop"));
    R(execve("loop", argv, argv + 1));
    fd = open("self", O_WRONLY | O_CREAT, 0700);
    write(fd, "#!self\n", 7), close(fd);
    R(execve("self", argv, argv + 1));
}

static void after_exec(char **argv)
{
    struct sigaction one, two;
    sigset_t set, pending;
    sigaction(SIGUSR1, NULL, &one), sigaction(SIGUSR2, NULL, &two);
    sigprocmask(SIG_BLOCK, NULL, &set), sigpending(&pending);
    printf("default %d ignored %d blocked %d pending %d umask %o\n", one.sa_handler == SIG_DFL, two.sa_handler == SIG_IGN,
           sigismember(&set, SIGTERM), sigismember(&pending, SIGTERM), umask(0));
    R(fcntl(atoi(argv[2]), F_GETFD));
    R(fcntl(atoi(argv[3]), F_GETFD));
    int n = 0, fd = open("/proc/self/cmdline", O_RDONLY);
    n = read(fd, buffer, 1000);
    for (int i = 0, word = 0; i < n; i++)
        if (!buffer[i])
            word++, printf("%s", word == 2 ? "two " : "word ");
    printf("\n");
    exit(4);
}

static void moving(void)
{
    char name[8], chain[100];
    struct stat s, t;
    R(mkdir("m", 0777));
    R(mkdir("m/n", 0777));
    R(rename("m", "m/n/o"));
    R(rename("m/n", "m"));
    R(rename("m/", "q/"));
    R(rename("q", "m"));
    int fd = open("m/n", O_RDONLY);
    R(rename("m/n", "n"));
    R(fchdir(fd));
    char *here = getcwd(buffer, 1000);
    printf("%s\n", here ? strrchr(here, '/') : "none");
    stat("..", &s);
    R(chdir("..") + stat(".", &t));
    R(s.st_ino == t.st_ino);
    close(fd);
    fd = open("f1", O_RDWR | O_CREAT, 0600);
    write(fd, "one", 3);
    int two = open("f2", O_RDWR | O_CREAT, 0600);
    R(rename("f1", "f2"));
    fstat(two, &s);
    R(s.st_nlink);
    R(pread(fd, buffer, 3, 0));
    R(link("f2", "f3"));
    R(rename("f2", "f3"));
    R(access("f2", F_OK));
    R(rename("n", "f3"));
    R(rename("f3", "n"));
    R(rename("f3", "n/"));
    R(rename("f3/", "f4"));
    R(mkdir("n/x", 0700));
    R(rename("m", "n"));
    R(rename("m/.", "k"));
    R(rename("m/..", "k"));
    R(rmdir("m/."));
    R(rmdir("n/x/.."));
    R(rmdir("m/"));
    R(mkdir("m/", 0700));
    R(mkdir("f2/", 0700));
    R(open("fresh/", O_CREAT | O_RDWR, 0600));
    R(unlink("f2/"));
    R(unlink("m/"));
    R(symlink("m", "lm"));
    R(rmdir("lm"));
    R(rmdir("lm/"));
    R(unlink("lm/"));
    R(mkdir("lm/", 0700));
    R(symlink("nowhere", "dangling"));
    R(open("dangling", O_CREAT | O_EXCL | O_RDWR, 0600));
    R(open("dangling", O_CREAT | O_RDWR, 0600) > 0);
    R(access("nowhere", F_OK));
    R(mkdir("dangling2", 0700) + symlink("nothing2", "d2"));
    R(mkdir("d2", 0700));
    strcpy(chain, "f2");
    for (int i = 0; i < 42; i++) {
        sprintf(name, "c%d", i);
        symlink(chain, name);
        strcpy(chain, name);
        if (i == 38 || i == 39 || i == 40) {
            R(open(name, O_RDONLY) > 0);
            R(access(name, F_OK));
        }
    }
    close(fd), close(two);
}

static void deep(void)
{
    char name[251];
    memset(name, 'd', 250), name[250] = 0;
    for (int i = 0; i < 20; i++)
        if (mkdir(name, 0700) || chdir(name))
            printf("deep %d %s\n", i, strerrorname_np(errno));
    R(getcwd(buffer, 10000) != NULL);
    R(syscall(SYS_getcwd, buffer, 10000));
    R(mkdir("leaf", 0700));
    R(access("../" , F_OK));
    memset(buffer, 'x', 5000), buffer[5000] = 0;
    R(open(buffer, O_RDONLY));
    buffer[4095] = 0;
    R(open(buffer, O_RDONLY));
    for (int i = 0; i < 4094; i += 2)
        buffer[i] = '.', buffer[i + 1] = '/';
    buffer[4094] = 0;
    R(access(buffer, F_OK));
    R(rmdir("leaf"));
    for (int i = 0; i < 20; i++)
        if (chdir("..") || rmdir(name))
            printf("up %d %s\n", i, strerrorname_np(errno));
}

static void reading_and_deleting(void)
{
    struct entry { unsigned long long ino; long long off; unsigned short size; unsigned char type; char name[]; } *e;
    char path[40], seen[300] = {0};
    int n, total = 0, twice = 0, fd;
    mkdir("many", 0700);
    for (int i = 0; i < 300; i++) {
        sprintf(path, "many/%03d", i);
        close(open(path, O_CREAT | O_RDWR, 0600));
    }
    fd = open("many", O_RDONLY);
    while ((n = syscall(SYS_getdents64, fd, buffer, 400)) > 0)
        for (int at = 0; at < n; at += e->size) {
            e = (void *)(buffer + at);
            if (e->name[0] == '.')
                continue;
            twice += seen[atoi(e->name)]++;
            total++;
            sprintf(path, "many/%s", e->name);
            unlink(path);
        }
    R(n);
    R(total);
    R(twice);
    R(rmdir("many"));
    R(syscall(SYS_getdents64, fd, buffer, 400));
    R(lseek(fd, 0, SEEK_SET));
    R(syscall(SYS_getdents64, fd, buffer, 400));
    R(openat(fd, "x", O_CREAT | O_RDWR, 0600));
    R(mkdirat(fd, "x", 0700));
    R(faccessat(fd, "..", F_OK, 0));
    R(faccessat(fd, ".", F_OK, 0));
    close(fd);
}

int main(int argc, char **argv)
{
    if (argc == 1 && !argv[0][0]) {
        printf("argv[0] is empty\n");
        return 5;
    }
    if (argc > 1)
        after_exec(argv);
    begin();
    limits();
    shared_offsets();
    across_exec(argv[0]);
    moving();
    deep();
    reading_and_deleting();
    return 0;
}
