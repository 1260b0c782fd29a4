/* Processes, threads, futexes, TLS, groups and limits: what each call returns. Run natively and as a guest. */
#define _GNU_SOURCE
#include <asm/ldt.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void show(const char *what, long result)
{
    if (result == -1)
        printf("%s = %s\n", what, strerrorname_np(errno));
    else
        printf("%s = %ld\n", what, result);
}

#define R(call) (errno = 0, show(#call, (long)(call)))

#define CHILD(...)                              \
    do {                                        \
        int pid_ = fork(), status_;             \
        if (!pid_) {                            \
            __VA_ARGS__;                        \
            _exit(9);                           \
        }                                       \
        waitpid(pid_, &status_, 0);             \
        printf("%s: %x\n", #__VA_ARGS__, status_); \
    } while (0)

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turned = PTHREAD_COND_INITIALIZER;
static int turn;
static __thread int own = 5;

static void *take_turns(void *argument)
{
    int id = (int)argument;
    own += id;
    for (int i = 0; i < 5; i++) {
        pthread_mutex_lock(&mutex);
        while (turn % 4 != id)
            pthread_cond_wait(&turned, &mutex);
        turn++;
        pthread_cond_broadcast(&turned);
        pthread_mutex_unlock(&mutex);
    }
    return (void *)(own * 100 + id);
}

static void *sleeper(void *argument)
{
    pause();
    return argument;
}

static void *exiter(void *argument)
{
    syscall(SYS_exit_group, 17);
    return argument;
}

static pthread_t start(void *(*function)(void *), int argument)
{
    pthread_t thread;
    pthread_create(&thread, 0, function, (void *)argument);
    return thread;
}

static void threads(void)
{
    pthread_t thread[4];
    for (int i = 0; i < 4; i++)
        thread[i] = start(take_turns, i);
    for (int i = 0; i < 4; i++) {
        void *result;
        pthread_join(thread[i], &result);
        R(result);
    }
    R(turn * 100 + own);
    CHILD(start(exiter, 0); pause());
    CHILD(start(sleeper, 0); sigset_t m; sigemptyset(&m); sigaddset(&m, SIGTERM); pthread_sigmask(SIG_BLOCK, &m, 0);
          kill(getpid(), SIGTERM); pause());
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutex_t *shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_mutex_init(shared, &attributes);
    CHILD(pthread_mutex_lock(shared); _exit(0));
    R(pthread_mutex_lock(shared) == EOWNERDEAD);
}

static void on_signal(int signo) { (void)signo; }

static int executed(char **argv)
{
    struct sigaction one, two;
    sigset_t mask, pending;
    sigaction(SIGUSR1, 0, &one);
    sigaction(SIGUSR2, 0, &two);
    sigprocmask(0, 0, &mask);
    sigpending(&pending);
    printf("executed %s %s: %d %d %d %d %d %d %d\n", argv[2], getenv("FOO") ? getenv("FOO") : "-",
           one.sa_handler == SIG_DFL, two.sa_handler == SIG_IGN, sigismember(&mask, SIGTERM),
           sigismember(&pending, SIGTERM), fcntl(59, F_GETFD), fcntl(60, F_GETFD), getpid() == gettid());
    return 5;
}

static void executing(char **argv)
{
    char *plain[] = {argv[0], "child", "plain", 0}, *threaded[] = {argv[0], "child", "threaded", 0};
    char *environment[] = {"FOO=bar", 0};
    CHILD(start(sleeper, 0); execve("/proc/self/exe", threaded, 0));
    CHILD(signal(SIGUSR1, on_signal); signal(SIGUSR2, SIG_IGN); sigset_t m; sigemptyset(&m); sigaddset(&m, SIGTERM);
          sigprocmask(SIG_BLOCK, &m, 0); raise(SIGTERM); dup2(1, 59); dup3(1, 60, O_CLOEXEC);
          execve("/proc/self/exe", plain, environment));
    int pid = vfork(), status;
    if (!pid) {
        execve("/proc/self/exe", plain, 0);
        _exit(1);
    }
    waitpid(pid, &status, 0);
    R(status);
    R(execve("/nonexistent", argv, 0));
    R(execve("/", argv, 0));
    R(execve((char *)4, argv, 0));
    R(execve("/proc/self/exe", (char **)4, 0));
}

static void endings(void)
{
    int status, pid;
    siginfo_t info;
    CHILD(_exit(300));
    CHILD(raise(SIGTERM));
    CHILD(raise(SIGKILL));
    CHILD(*(volatile int *)0 = 1);
    CHILD(signal(SIGSEGV, SIG_IGN); *(volatile int *)0 = 1);
    CHILD(sigset_t m; sigfillset(&m); sigprocmask(SIG_SETMASK, &m, 0); *(volatile int *)0 = 1);
    if (!(pid = fork())) {
        raise(SIGSTOP);
        _exit(3);
    }
    R(waitpid(pid, &status, WUNTRACED) == pid);
    R(status);
    memset(&info, 0, sizeof info);
    R(waitid(P_PID, pid, &info, WSTOPPED | WNOHANG | WNOWAIT));
    R(info.si_pid);
    kill(pid, SIGCONT);
    R(waitpid(pid, &status, WCONTINUED) == pid);
    R(status);
    R(waitid(P_PID, pid, &info, WEXITED | WNOWAIT));
    R(info.si_signo * 10000 + info.si_code * 100 + info.si_status);
    R(waitpid(pid, &status, 0) == pid);
    R(waitpid(pid, &status, 0));
    signal(SIGCHLD, SIG_IGN);
    if (!(pid = fork()))
        _exit(0);
    R(waitpid(pid, &status, 0));
    signal(SIGCHLD, SIG_DFL);
    R(wait(0));
    R(waitpid(-1, 0, 0x100));
    R(waitid(P_ALL, 0, 0, 0));
}

static void cloning(void)
{
    int parent_tid = 0, status;
    int pid = syscall(SYS_clone, SIGCHLD | CLONE_PARENT_SETTID, 0, &parent_tid, 0, 0);
    if (!pid)
        _exit(8);
    R(parent_tid == pid);
    R(waitpid(pid, &status, 0) == pid);
    R(syscall(SYS_clone, CLONE_THREAD, 0, 0, 0, 0));
    R(syscall(SYS_clone, CLONE_SIGHAND, 0, 0, 0, 0));
    R(syscall(SYS_clone, CLONE_FS | CLONE_NEWNS, 0, 0, 0, 0));
    pid = syscall(SYS_clone, 0, 0, 0, 0, 0);
    if (!pid)
        _exit(0);
    R(waitpid(pid, &status, 0));
    R(waitpid(pid, &status, __WCLONE) == pid);
}

static void groups(void)
{
    int pair[2];
    char byte;
    R(getpgid(0) == getpgrp());
    R(setpgid(99999, 0));
    R(setpgid(0, -1));
    R(getpgid(99999));
    R(getsid(99999));
    CHILD(R(setsid() == getpid()); R(setpgid(0, 0)); R(setsid()); R(getsid(0) == getpid()));
    CHILD(R(setpgid(0, 0)); R(getpgrp() == getpid()); R(setpgid(0, 99999)));
    CHILD(setpgid(0, 0); for (int i = 0; i < 2; i++) if (!fork()) pause(); kill(0, SIGUSR1); pause());
    pipe(pair);
    CHILD(int parent = getpid(); if (!fork()) { while (getppid() == parent) usleep(500); write(pair[1], "o", 1); });
    R(read(pair[0], &byte, 1));
}

static void descriptors(void)
{
    struct user_desc d = {.entry_number = -1, .base_addr = 0x1000, .limit = 0xfffff, .seg_32bit = 1,
                          .limit_in_pages = 1, .useable = 1}, g = {0};
    static int value = 1234;
    int seen;
    R(syscall(SYS_set_thread_area, &d));
    g.entry_number = d.entry_number;
    R(syscall(SYS_get_thread_area, &g));
    printf("%d %x %x %d %d %d %d %d %d\n", g.entry_number, g.base_addr, g.limit, g.seg_32bit, g.contents,
           g.read_exec_only, g.limit_in_pages, g.seg_not_present, g.useable);
    g.entry_number = 5;
    R(syscall(SYS_get_thread_area, &g));
    g.entry_number = 14;
    R(syscall(SYS_get_thread_area, &g));
    printf("%x %x %d %d %d %d %d %d\n", g.base_addr, g.limit, g.seg_32bit, g.contents, g.read_exec_only,
           g.limit_in_pages, g.seg_not_present, g.useable);
    d.entry_number = 14;
    d.seg_32bit = 0;
    R(syscall(SYS_set_thread_area, &d));
    d.seg_32bit = 1;
    d.contents = 2;
    R(syscall(SYS_set_thread_area, &d));
    d.contents = 0;
    d.seg_not_present = 1;
    R(syscall(SYS_set_thread_area, &d));
    R(syscall(SYS_set_thread_area, 4));
    d.seg_not_present = 0;
    d.base_addr = (unsigned)&value;
    R(syscall(SYS_set_thread_area, &d));
    asm volatile("mov %1, %%fs; mov %%fs:0, %0" : "=r"(seen) : "r"(14 << 3 | 3));
    R(seen);
}

static void futexes(void)
{
    int w = 1, w2 = 0;
    struct timespec time = {0, 1000};
    R(syscall(SYS_futex, &w, FUTEX_WAIT, 0, 0));
    R(syscall(SYS_futex, &w, FUTEX_WAIT, 1, &time));
    R(syscall(SYS_futex, (char *)&w + 1, FUTEX_WAIT, 1, &time));
    R(syscall(SYS_futex, 4096, FUTEX_WAIT, 1, &time));
    R(syscall(SYS_futex, &w, FUTEX_WAKE, 1));
    R(syscall(SYS_futex, 4096, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1));
    R(syscall(SYS_futex, 4096, FUTEX_WAKE, 1));
    R(syscall(SYS_futex, &w, FUTEX_WAIT_BITSET, 1, &time, 0, 0));
    R(syscall(SYS_futex, &w, FUTEX_WAKE_BITSET, 1, 0, 0, 0));
    R(syscall(SYS_futex, &w, FUTEX_WAIT | FUTEX_CLOCK_REALTIME, 1, &time));
    R(syscall(SYS_futex, &w, 77, 1, &time));
    R(syscall(SYS_futex, &w, FUTEX_CMP_REQUEUE, 1, 1, &w2, 0));
    R(syscall(SYS_futex, &w, FUTEX_REQUEUE, -1, 1, &w2, 0));
    R(syscall(SYS_futex, &w, FUTEX_WAKE_OP, 1, 1, &w2, FUTEX_OP(FUTEX_OP_ADD, 5, FUTEX_OP_CMP_EQ, 0)));
    R(w2);
    R(syscall(SYS_futex, &w, FUTEX_WAKE_OP, 1, 1, &w2, FUTEX_OP(FUTEX_OP_OR | 8, 4, FUTEX_OP_CMP_LT, 0)));
    R(w2);
    R(syscall(SYS_futex, &w, FUTEX_WAKE_OP, 1, 1, &w2, FUTEX_OP(FUTEX_OP_SET, 0xfff, FUTEX_OP_CMP_LT, 0)));
    R(w2);
    R(syscall(SYS_futex, &w, FUTEX_WAKE_OP, 1, 1, &w2, 0x7f000000));
    time.tv_nsec = -1;
    R(syscall(SYS_futex, &w, FUTEX_WAIT, 1, &time));
    time.tv_sec = time.tv_nsec = 0;
    R(syscall(SYS_futex, &w, FUTEX_WAIT_BITSET, 1, &time, 0, -1));
    R(syscall(SYS_set_robust_list, 0, 11));
}

static void limits(void)
{
    struct rlimit r;
    struct rusage usage;
    struct timespec time;
    unsigned old[2];
    char name[17] = "";
    R(getrlimit(77, &r));
    R(syscall(SYS_getrlimit, RLIMIT_AS, old));
    printf("%x\n", old[0]);
    R(syscall(SYS_ugetrlimit, RLIMIT_AS, old));
    printf("%x\n", old[0]);
    r.rlim_cur = 20;
    r.rlim_max = 10;
    R(setrlimit(RLIMIT_NOFILE, &r));
    r.rlim_cur = r.rlim_max = 5;
    R(setrlimit(RLIMIT_NOFILE, &r));
    R(dup2(1, 7));
    R(getrusage(5, &usage));
    R(getrusage(RUSAGE_SELF, &usage));
    R(syscall(SYS_getpriority, 0, 0));
    R(getpriority(7, 0));
    R(getpriority(PRIO_PROCESS, 99999));
    R(nice(3));
    R(setpriority(PRIO_PROCESS, 0, 10));
    R(syscall(SYS_getpriority, 0, 0));
    R(sched_getscheduler(0));
    R(sched_getscheduler(-1));
    R(sched_getscheduler(99999));
    R(sched_get_priority_max(SCHED_FIFO));
    R(sched_get_priority_min(SCHED_OTHER));
    R(sched_get_priority_max(99));
    R(sched_yield());
    R(syscall(SYS_sched_getaffinity, 0, 3, &usage));
    R(syscall(SYS_getgroups32, -1, 0));
    prctl(PR_SET_NAME, "averyveryverylongname");
    prctl(PR_GET_NAME, name);
    puts(name);
    R(prctl(12345));
    R(prctl(PR_SET_PDEATHSIG, 100));
    R(syscall(SYS_personality, 0xffffffff));
    R(syscall(SYS_uname, 4));
    R(syscall(SYS_getrandom, name, 4, 8));
    R(syscall(SYS_getrandom, 4, 4, 0));
    R(syscall(SYS_restart_syscall));
    R(syscall(SYS_clock_gettime, 99, &time));
    R(syscall(SYS_clock_gettime, 0, 4));
    R(syscall(SYS_clock_getres, 1, &time));
    R(syscall(SYS_clock_getres, 0, 0));
    time.tv_sec = 0;
    time.tv_nsec = 1000000000;
    R(clock_nanosleep(CLOCK_MONOTONIC, 0, &time, 0));
    time.tv_nsec = 1;
    R(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, 0));
    R(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &time, 0));
}

int main(int argc, char **argv)
{
    setvbuf(stdout, 0, _IONBF, 0);
    if (argc > 1 && !strcmp(argv[1], "child"))
        return executed(argv);
    threads();
    executing(argv);
    endings();
    cloning();
    groups();
    descriptors();
    futexes();
    limits();
    return 0;
}
