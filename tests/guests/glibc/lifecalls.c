/* Processes, signals and memory at their corners: orphans, stops, threads, queues of signals, mappings of files. */
#include "calls.h"

static int order[16], seen;
static jmp_buf back;

static void note(int signal, siginfo_t *info, void *context)
{
    (void)context;
    if (seen < 16)
        order[seen++] = signal * 100 + (info->si_code == SI_QUEUE ? info->si_value.sival_int : 0);
}

static void queues(void)
{
    struct sigaction action = {.sa_sigaction = note, .sa_flags = SA_SIGINFO};
    sigset_t all, old;
    int signals[] = {SIGUSR1, SIGUSR2, SIGRTMIN + 1, SIGRTMIN, SIGHUP};
    siginfo_t info;
    struct timespec none = {0, 0};
    for (int i = 0; i < 5; i++)
        sigaction(signals[i], &action, NULL);
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &old);
    for (int i = 0; i < 3; i++)
        for (int s = 0; s < 5; s++)
            sigqueue(getpid(), signals[s], (union sigval){.sival_int = i});
    sigprocmask(SIG_SETMASK, &old, NULL);
    for (int i = 0; i < seen; i++)
        printf("%d ", order[i]);
    printf("\n");
    sigprocmask(SIG_SETMASK, &all, &old);
    raise(SIGUSR2);
    kill(getpid(), SIGUSR1);
    R(sigtimedwait(&all, &info, &none));
    printf("code %d mine %d\n", info.si_code, info.si_pid == getpid());
    R(sigwaitinfo(&all, &info));
    printf("code %d\n", info.si_code);
    R(sigtimedwait(&all, &info, &none));
    raise(SIGUSR1);
    signal(SIGUSR1, SIG_IGN);
    R(sigtimedwait(&all, &info, &none));
    sigprocmask(SIG_SETMASK, &old, NULL);
    R(kill(999999, 100));
    R(kill(getpid(), 100));
    R(kill(getpid(), 65));
    R(syscall(SYS_tkill, 999999, 100));
    R(syscall(SYS_tgkill, 0, getpid(), 0));
    R(sigqueue(getpid(), 0, (union sigval){0}));
    R(kill(-999999, SIGTERM));
}

static void groups(void)
{
    int p[2], status;
    char c;
    pipe(p);
    pid_t pid = fork();
    if (!pid) {
        setpgid(0, 0);
        for (int i = 0; i < 3; i++)
            if (!fork()) {
                write(p[1], "r", 1);
                pause();
                _exit(0);
            }
        for (;;) /* without waiting: one that it had time to wait for would not be adopted */
            pause();
    }
    for (int i = 0; i < 3; i++)
        read(p[0], &c, 1);
    R(setpgid(pid, pid));
    R(getpgid(pid) == pid);
    R(setpgid(pid, 1 << 20));
    signal(SIGTERM, SIG_IGN);
    for (int i = 0; i < 3; i++)
        usleep(20000);
    siginfo_t info;
    R(waitid(P_PGID, pid, &info, WEXITED | WNOHANG));
    R(waitpid(-pid, &status, WNOHANG));
    R(waitpid(-999, &status, 0));
    if (!fork()) {
        kill(-pid, SIGSTOP);
        _exit(0);
    }
    waitpid(0, &status, 0);
    R(waitpid(pid, &status, WUNTRACED) == pid);
    R(WIFSTOPPED(status));
    R(waitid(P_PID, pid, &info, WSTOPPED | WNOHANG | WNOWAIT));
    kill(-pid, SIGCONT);
    R(waitid(P_PID, pid, &info, WCONTINUED | WNOWAIT));
    printf("%d %d\n", info.si_code, info.si_status);
    R(waitpid(pid, &status, WCONTINUED) == pid);
    signal(SIGTERM, SIG_DFL);
    pid_t killer = fork();
    if (!killer) {
        int list, mine = pid;
        (void)list;
        signal(SIGINT, SIG_IGN);
        kill(-mine, SIGINT);
        _exit(0);
    }
    ended(killer);
    ended(pid);
    int adopted = 0;
    while (wait(&status) > 0)
        adopted += WTERMSIG(status) == SIGINT;
    R(adopted);
    close(p[0]), close(p[1]);
}

static void orphans(void)
{
    int p[2], status;
    char line[40] = {0};
    pipe(p);
    pid_t pid = fork();
    if (!pid) {
        pid_t parent = getpid();
        if (!fork()) {
            while (getppid() == parent)
                usleep(1000);
            sprintf(line, "%d", getppid());
            write(p[1], line, strlen(line));
            _exit(3);
        }
        _exit(2);
    }
    ended(pid);
    read(p[0], line, 39);
    R(atoi(line) == getpid());
    pid = wait(&status);
    printf("adopted %d\n", WEXITSTATUS(status));
    R(wait(&status));
    signal(SIGCHLD, SIG_IGN);
    if (!fork())
        _exit(1);
    R(wait(&status));
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_NOCLDWAIT};
    sigaction(SIGCHLD, &action, NULL);
    count = 0;
    if (!fork())
        _exit(1);
    while (wait(&status) > 0 || errno == EINTR)
        ;
    R(count);
    signal(SIGCHLD, SIG_DFL);
    pid = syscall(SYS_clone, 200, 0, 0, 0, 0);
    if (!pid)
        _exit(3);
    R(waitpid(pid, &status, 0));
    R(waitpid(pid, &status, __WCLONE) == pid);
    R(WEXITSTATUS(status));
    pid = syscall(SYS_clone, CLONE_PARENT_SETTID | SIGCHLD, 0, 8, 0, 0);
    if (!pid)
        _exit(4);
    ended(pid);
    pid = syscall(SYS_clone, CLONE_CHILD_SETTID | SIGCHLD, 0, 8, 0, 8);
    if (!pid)
        _exit(5);
    ended(pid);
    pid = vfork();
    if (!pid)
        _exit(6);
    ended(pid);
    struct rlimit cpu = {1, 2};
    pid = fork();
    if (!pid) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        setrlimit(RLIMIT_NPROC, &(struct rlimit){0, 0});
        R(fork());
        _exit(0);
    }
    ended(pid);
    (void)cpu;
}

static void *sleeper(void *argument)
{
    (void)argument;
    usleep(50000);
    syscall(SYS_exit, 9);
    return NULL;
}

static void *executor(void *argument)
{
    char *argv[] = {"x", "thread", NULL}, *envp[] = {NULL};
    (void)argument;
    usleep(30000);
    execve("/proc/self/exe", argv, envp);
    _exit(8);
}

static void *faulter(void *argument)
{
    (void)argument;
    usleep(30000);
    *(volatile int *)8 = 1;
    return NULL;
}

static void threads(void)
{
    void *(*runs[])(void *) = {sleeper, executor, faulter};
    for (int i = 0; i < 3; i++) {
        pthread_t t;
        pid_t pid = fork();
        if (!pid) {
            pthread_create(&t, NULL, runs[i], NULL);
            if (i == 0)
                syscall(SYS_exit, 4);
            pause();
            _exit(0);
        }
        ended(pid);
    }
}

static void fault(int signal, siginfo_t *info, void *context)
{
    (void)context;
    printf("signal %d code %d\n", signal, info->si_code);
    longjmp(back, 1);
}

#define TRY(what)                                                                                                      \
    do {                                                                                                               \
        printf("%s: ", #what);                                                                                         \
        if (!setjmp(back)) {                                                                                           \
            what;                                                                                                      \
            printf("fine\n");                                                                                          \
        }                                                                                                              \
        sigset_t set_;                                                                                                 \
        sigemptyset(&set_);                                                                                            \
        sigprocmask(SIG_SETMASK, &set_, NULL);                                                                         \
    } while (0)

static void memory(void)
{
    struct sigaction action = {.sa_sigaction = fault, .sa_flags = SA_SIGINFO};
    int fd = open("mapped", O_RDWR | O_CREAT, 0600), other;
    volatile char *a, *b, *c;
    int p[2];
    sigaction(SIGSEGV, &action, NULL), sigaction(SIGBUS, &action, NULL);
    ftruncate(fd, 10000);
    other = open("mapped", O_RDWR);
    a = mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    b = mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_SHARED, other, 0);
    c = mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 4096);
    strcpy((char *)a, "through a");
    R(strcmp((char *)b, "through a"));
    c[0] = 'c';
    R(a[4096]);
    R(pwrite(fd, "written", 8, 100));
    R(strcmp((char *)a + 100, "written"));
    TRY(a[10001] = 1);
    TRY(a[12288] = 1);
    R(pread(fd, buffer, 4096, 9990));
    R(ftruncate(fd, 20000));
    R(a[10001]);
    R(truncate("mapped", 4096));
    TRY(a[4096] = 1);
    TRY(b[0] = 'B');
    R(a[0]);
    close(open("mapped", O_RDWR | O_TRUNC));
    TRY(b[0] = 'B');
    R(write(1, (char *)b, 1));
    R(read(other, (char *)b, 1));
    R(ftruncate(fd, 8192));
    R(a[0]);
    pid_t pid = fork();
    if (!pid) {
        a[0] = 'k', c[1] = 'k';
        _exit(0);
    }
    ended(pid);
    R(a[0]);
    R(c[1]);
    R(mprotect((char *)a, 4096, PROT_NONE));
    TRY(a[0] = 1);
    TRY(a[4096] = 1);
    pipe(p);
    R(write(p[1], (char *)a, 10));
    R(write(p[1], (char *)b, 10));
    R(read(p[0], (char *)a, 5));
    R(read(p[0], buffer, 100));
    R(munmap((char *)a + 4096, 4096));
    TRY(a[4096] = 1);
    R(mremap((char *)b, 16384, 4096, 0) == b);
    TRY(b[4096] = 1);
    char *m = mremap((char *)b, 4096, 40960, MREMAP_MAYMOVE);
    R(m != MAP_FAILED);
    R(m[0] == 'k');
    TRY(m[8192] = 1);
    R(mmap(NULL, 0, PROT_READ, MAP_PRIVATE, fd, 0));
    R(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 99, 0));
    R(mmap(NULL, 4096, PROT_READ, 0, fd, 0));
    R(mmap((void *)0x1001, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
    R(mmap((void *)0xfffff000, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
    R(mmap((void *)m, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
    int wronly = open("mapped", O_WRONLY), rdonly = open("mapped", O_RDONLY), dir = open(".", O_RDONLY);
    R(mmap(NULL, 4096, PROT_READ, MAP_SHARED, wronly, 0));
    R(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, rdonly, 0));
    R(mmap(NULL, 4096, PROT_READ, MAP_SHARED, dir, 0));
    R(mmap(NULL, 4096, PROT_READ, MAP_SHARED, p[0], 0));
    char *ro = mmap(NULL, 4096, PROT_READ, MAP_SHARED, rdonly, 0);
    R(mprotect(ro, 4096, PROT_READ | PROT_WRITE));
    R(munmap((void *)1, 4096));
    R(munmap((void *)4096, 0));
    R(madvise(m, 4096, MADV_DONTNEED));
    R(m[0] == 'k');
    R(msync(m, 4096, MS_SYNC | MS_ASYNC));
    R(msync(m, 4096, MS_SYNC));
    char *end = sbrk(0);
    R(brk(end + 100000));
    memset(end, 1, 100000);
    R(brk(end) + brk(end + 5000));
    R(end[4096]);
    R(brk((void *)0xfffff000));
    R(brk((void *)1));
    struct rlimit as;
    getrlimit(RLIMIT_AS, &as);
    pid = fork();
    if (!pid) {
        as.rlim_cur = 64 << 20;
        setrlimit(RLIMIT_AS, &as);
        R(mmap(NULL, 100 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        R(brk(end + (100 << 20)));
        R(mremap(m, 40960, 100 << 20, MREMAP_MAYMOVE));
        R(mmap(NULL, 1 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
        _exit(0);
    }
    ended(pid);
    memset((char *)(a = mmap(NULL, 8192, 7, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)), 0xc3, 100);
    ((void (*)(void))a)();
    memcpy((char *)a, "\xb8\x07\0\0\0\xc3", 6);
    R(((int (*)(void))a)());
    mmap((char *)a, 4096, 7, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    memcpy((char *)a, "\xb8\x09\0\0\0\xc3", 6);
    R(((int (*)(void))a)());
    mprotect((char *)a, 4096, PROT_READ);
    TRY(a[0] = 1);
}

static int deeper(int n)
{
    volatile char room[4096];
    room[0] = n;
    return n ? deeper(n - 1) + room[0] : 0;
}

static void stack(void)
{
    pid_t pid = fork();
    struct rlimit small = {256 << 10, RLIM_INFINITY};
    if (!pid) {
        setrlimit(RLIMIT_STACK, &small);
        R(deeper(30) > 0);
        signal(SIGSEGV, SIG_DFL);
        deeper(1000);
        _exit(0);
    }
    ended(pid);
    pid = fork();
    if (!pid) {
        stack_t alternate = {.ss_sp = big, .ss_size = 65536};
        struct sigaction action = {.sa_sigaction = fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
        sigaltstack(&alternate, NULL);
        sigaction(SIGSEGV, &action, NULL);
        setrlimit(RLIMIT_STACK, &small);
        TRY(deeper(1000));
        sigset_t set;
        sigfillset(&set), sigprocmask(SIG_BLOCK, &set, NULL);
        *(volatile int *)8 = 1;
        _exit(0);
    }
    ended(pid);
}

static void timers(void)
{
    struct itimerval it = {{0, 0}, {1, 990000}}, old;
    struct timespec past = {1, 0}, bad = {0, 1000000000};
    on(SIGALRM, 0);
    R(alarm(100));
    R(alarm(2));
    R(setitimer(ITIMER_REAL, &it, &old));
    R(old.it_value.tv_sec);
    R(alarm(0));
    R(alarm(0));
    it.it_value.tv_sec = 0, it.it_value.tv_usec = 20000, it.it_interval.tv_usec = 20000;
    count = 0;
    setitimer(ITIMER_REAL, &it, NULL);
    while (count < 3)
        pause();
    it.it_value.tv_usec = 0;
    setitimer(ITIMER_REAL, &it, &old);
    R(old.it_interval.tv_usec);
    it.it_value.tv_usec = 1000000;
    R(setitimer(ITIMER_REAL, &it, NULL));
    R(setitimer(7, &it, NULL));
    R(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &past, NULL));
    R(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &past, NULL));
    R(nanosleep(&bad, NULL));
    past.tv_sec = -1;
    R(nanosleep(&past, NULL));
    for (int clock = 0; clock < 14; clock++) {
        struct timespec t = {0, 1};
        printf("clock %d: ", clock);
        if (clock != 2)
            R(syscall(SYS_clock_nanosleep, clock, 0, &t, NULL));
        R(syscall(SYS_clock_gettime, clock, &t));
    }
}

static void fpu(int signal, siginfo_t *info, void *context)
{
    struct _libc_fpstate *f = ((ucontext_t *)context)->uc_mcontext.fpregs;
    (void)signal, (void)info;
    printf("cw %lx sw %lx tag %lx cs %lx ds %lx status %x\n", f->cw, f->sw, f->tag, f->cssel, f->datasel,
           (unsigned)f->status & 0xffff);
}

static void x87_frame(void)
{
    struct sigaction action = {.sa_sigaction = fpu, .sa_flags = SA_SIGINFO};
    static double d = 3;
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    __asm__ volatile("fldl %0; fld1; faddp" : "+m"(d));
    raise(SIGUSR1);
    __asm__ volatile("fstpl %0" : "=m"(d));
    R(d);
    raise(SIGUSR1);
}

int main(int argc, char **argv)
{
    (void)argv;
    if (argc > 1)
        return 12;
    begin();
    R(prctl(PR_SET_CHILD_SUBREAPER, 1)); /* as the first process of a machine is */
    queues();
    groups();
    orphans();
    threads();
    memory();
    stack();
    timers();
    x87_frame();
    return 0;
}
