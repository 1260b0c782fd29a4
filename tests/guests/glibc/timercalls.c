/* Timers that send signals; processes by descriptor, and what one process may do with another; refusals. */
#include "calls.h"
#include <linux/kcmp.h>
#include <linux/openat2.h>
#include <sys/syscall.h>

static int ids[4];
static volatile int seen, code, value, overrun, handled;

static void informed(int signal, siginfo_t *info, void *context)
{
    seen = signal, code = info->si_code, value = info->si_value.sival_int, overrun = info->si_overrun, handled++;
}

static void catch(int signal)
{
    struct sigaction action = {.sa_sigaction = informed, .sa_flags = SA_SIGINFO};
    sigaction(signal, &action, NULL);
}

struct event {
    int value, signo, notify, tid, rest[12];
};

#define CREATE(clock, event, id) syscall(SYS_timer_create, clock, event, id)

static long set(int id, int flags, long value_ns, long interval_ns)
{
    struct timespec spec[2] = {{interval_ns / 1000000000, interval_ns % 1000000000}, {value_ns / 1000000000, value_ns % 1000000000}};
    return syscall(SYS_timer_settime, id, flags, spec, NULL);
}

static void pause_for(int ms)
{
    struct timespec rest = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&rest, &rest))
        ;
}

static void errors(void)
{
    struct event event = {1, SIGUSR1, 0};
    struct timespec spec[2] = {{0}};
    R(CREATE(99, &event, ids));
    R(CREATE(CLOCK_MONOTONIC_RAW, &event, ids));
    R(CREATE(CLOCK_MONOTONIC_COARSE, &event, ids));
    R(CREATE(CLOCK_BOOTTIME_ALARM, &event, ids));
    R(CREATE(CLOCK_MONOTONIC, 16, ids));
    R(CREATE(CLOCK_MONOTONIC, &event, 16));
    event.notify = 3;
    R(CREATE(CLOCK_MONOTONIC, &event, ids));
    event.notify = 4, event.tid = 99999999;
    R(CREATE(CLOCK_MONOTONIC, &event, ids));
    event.notify = 0, event.signo = 65;
    R(CREATE(CLOCK_MONOTONIC, &event, ids));
    event.signo = 0;
    R(CREATE(CLOCK_MONOTONIC, &event, ids));
    R(syscall(SYS_timer_settime, 1000, 0, spec, NULL));
    R(syscall(SYS_timer_gettime, 1000, spec));
    R(syscall(SYS_timer_getoverrun, 1000));
    R(syscall(SYS_timer_delete, 1000));
    event.signo = SIGUSR1;
    R(CREATE(CLOCK_MONOTONIC, &event, ids));
    R(syscall(SYS_timer_settime, ids[0], 0, NULL, NULL));
    R(syscall(SYS_timer_settime, ids[0], 0, 16, NULL));
    R(syscall(SYS_timer_gettime, ids[0], 16));
    spec[1].tv_nsec = 1000000000;
    R(syscall(SYS_timer_settime, ids[0], 0, spec, NULL));
    spec[1].tv_nsec = 0, spec[1].tv_sec = -1;
    R(syscall(SYS_timer_settime, ids[0], 0, spec, NULL));
    R(syscall(SYS_timer_delete, ids[0]));
    R(syscall(SYS_timer_delete, ids[0]));
}

static void timers(void)
{
    struct event event = {77, SIGRTMIN + 2, 0};
    struct timespec spec[2];
    sigset_t block, pending;
    catch (SIGRTMIN + 2), catch (SIGALRM);
    R(CREATE(CLOCK_MONOTONIC, &event, ids));
    R(syscall(SYS_timer_gettime, ids[0], spec));
    R(spec[1].tv_sec || spec[1].tv_nsec);
    R(set(ids[0], 0, 20000000, 0));
    R(syscall(SYS_timer_gettime, ids[0], spec));
    R(spec[1].tv_nsec > 0 && spec[1].tv_nsec <= 20000000);
    pause_for(60);
    R(handled), R(seen == SIGRTMIN + 2), R(code), R(value), R(overrun);
    R(syscall(SYS_timer_gettime, ids[0], spec));
    R(spec[1].tv_sec || spec[1].tv_nsec);
    R(syscall(SYS_timer_getoverrun, ids[0]));
    sigemptyset(&block), sigaddset(&block, SIGRTMIN + 2);
    sigprocmask(SIG_BLOCK, &block, NULL);
    R(set(ids[0], 0, 10000000, 20000000));
    pause_for(100);
    sigpending(&pending);
    R(sigismember(&pending, SIGRTMIN + 2));
    R(syscall(SYS_timer_gettime, ids[0], spec));
    R(spec[0].tv_nsec), R(spec[1].tv_nsec > 0 && spec[1].tv_nsec <= 20000000);
    handled = 0;
    sigprocmask(SIG_UNBLOCK, &block, NULL);
    R(handled), R(overrun);
    R(syscall(SYS_timer_getoverrun, ids[0]));
    R(set(ids[0], 0, 0, 0));
    handled = 0;
    pause_for(50);
    R(handled);
    R(set(ids[0], TIMER_ABSTIME, 1000000, 0));
    pause_for(10);
    R(handled);
    sigprocmask(SIG_BLOCK, &block, NULL);
    R(set(ids[0], 0, 1000000, 0));
    pause_for(20);
    siginfo_t info;
    struct timespec brief = {0, 0};
    R(sigtimedwait(&block, &info, &brief) == SIGRTMIN + 2);
    R(info.si_code), R(info.si_value.sival_int), R(info.si_overrun);
    R(sigtimedwait(&block, &info, &brief));
    sigprocmask(SIG_UNBLOCK, &block, NULL);
    R(CREATE(CLOCK_REALTIME, NULL, ids + 1));
    handled = 0;
    R(set(ids[1], 0, 10000000, 0));
    pause_for(40);
    R(handled), R(seen), R(value == ids[1]);
    event.notify = 1;
    R(CREATE(CLOCK_BOOTTIME, &event, ids + 2));
    R(set(ids[2], 0, 10000000, 0));
    pause_for(30);
    R(syscall(SYS_timer_gettime, ids[2], spec));
    R(spec[1].tv_nsec);
    event.notify = 4, event.tid = syscall(SYS_gettid), event.value = 5;
    R(CREATE(CLOCK_MONOTONIC, &event, ids + 3));
    handled = 0;
    R(set(ids[3], 0, 10000000, 0));
    pause_for(40);
    R(handled), R(value);
    signal(SIGRTMIN + 2, SIG_IGN);
    R(set(ids[0], 0, 1000000, 1000000));
    pause_for(20);
    R(syscall(SYS_timer_gettime, ids[0], spec));
    R(spec[0].tv_nsec);
    R(set(ids[0], 0, 0, 0));
    long long wide[4] = {0, 0, 0, 5000000}, old[4];
    R(syscall(409, ids[1], 0, wide, old));
    R(old[3]);
    R(syscall(408, ids[1], old));
    R(old[2] == 0 && old[3] > 0 && old[3] <= 5000000);
    pid_t pid = fork();
    if (!pid) {
        errno = 0;
        show("a child has no timers", syscall(SYS_timer_gettime, ids[0], spec));
        _exit(0);
    }
    ended(pid);
    for (int i = 0; i < 4; i++)
        R(syscall(SYS_timer_delete, ids[i]));
}

static void pidfds(void)
{
    int p[2];
    siginfo_t info = {0};
    pipe(p);
    R(syscall(SYS_pidfd_open, 0, 0));
    R(syscall(SYS_pidfd_open, -5, 0));
    R(syscall(SYS_pidfd_open, 99999999, 0));
    R(syscall(SYS_pidfd_open, getpid(), 1));
    pid_t pid = fork();
    if (!pid) {
        close(p[1]);
        read(p[0], buffer, 1);
        _exit(7);
    }
    int fd = syscall(SYS_pidfd_open, pid, 0);
    struct pollfd poller = {fd, POLLIN};
    R(fcntl(fd, F_GETFD));
    R(fcntl(fd, F_GETFL));
    R(read(fd, buffer, 1));
    R(write(fd, buffer, 1));
    R(lseek(fd, 0, SEEK_SET));
    R(poll(&poller, 1, 0));
    R(syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0));
    R(syscall(SYS_pidfd_send_signal, fd, 65, NULL, 0));
    R(syscall(SYS_pidfd_send_signal, fd, 0, NULL, 99));
    R(syscall(SYS_pidfd_send_signal, p[0], 0, NULL, 0));
    R(syscall(SYS_pidfd_send_signal, 99, 0, NULL, 0));
    R(syscall(SYS_pidfd_send_signal, fd, SIGUSR1, &info, 0));
    info.si_signo = SIGUSR1;
    R(syscall(SYS_pidfd_send_signal, fd, SIGUSR1, &info, 0));
    R(syscall(SYS_pidfd_getfd, fd, 99, 0));
    R(syscall(SYS_pidfd_getfd, fd, p[0], 1));
    R(syscall(SYS_pidfd_getfd, p[0], p[0], 0));
    int taken = syscall(SYS_pidfd_getfd, fd, p[0], 0);
    R(fcntl(taken, F_GETFD));
    R(syscall(SYS_kcmp, getpid(), pid, KCMP_FILE, p[0], p[0]));
    R(syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, taken, p[0]));
    R(syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, 99, p[0]));
    R(syscall(SYS_kcmp, getpid(), pid, KCMP_VM, 0, 0) > 0);
    R(syscall(SYS_kcmp, getpid(), getpid(), KCMP_VM, 0, 0));
    R(syscall(SYS_kcmp, getpid(), pid, KCMP_FILES, 0, 0) > 0);
    R(syscall(SYS_kcmp, getpid(), pid, 99, 0, 0));
    R(syscall(SYS_kcmp, getpid(), 99999999, KCMP_VM, 0, 0));
    R(syscall(SYS_waitid, 3, fd, &info, WEXITED | WNOHANG, NULL));
    R(info.si_pid);
    write(p[1], "x", 1);
    R(poll(&poller, 1, 5000));
    R(poller.revents);
    R(syscall(SYS_waitid, 3, fd, &info, WEXITED, NULL));
    R(info.si_pid == pid), R(info.si_status), R(info.si_code);
    R(poll(&poller, 1, 0));
    R(poller.revents);
    R(syscall(SYS_waitid, 3, fd, &info, WEXITED, NULL));
    R(syscall(SYS_waitid, 3, p[0], &info, WEXITED, NULL));
    R(syscall(SYS_waitid, 3, 99, &info, WEXITED, NULL));
    R(syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0));
    R(syscall(SYS_pidfd_getfd, fd, 0, 0));
    close(fd);
    fd = -1;
    pid = syscall(SYS_clone, CLONE_PIDFD | SIGCHLD, NULL, &fd, NULL, NULL);
    if (!pid)
        _exit(fd == -1 && fcntl(taken + 1, F_GETFD) < 0 ? 9 : 1);
    R(fcntl(fd, F_GETFD));
    R(syscall(SYS_waitid, 3, fd, &info, WEXITED, NULL)), R(info.si_pid == pid), R(info.si_status);
    close(fd);
    unsigned long long args[8] = {CLONE_PIDFD, (unsigned long)&fd, 0, 0, SIGCHLD};
    pid = syscall(SYS_clone3, args, sizeof args);
    if (!pid)
        _exit(8);
    R(syscall(SYS_waitid, 3, fd, &info, WEXITED, NULL)), R(info.si_pid == pid), R(info.si_status);
    close(fd);
    R(syscall(SYS_clone, CLONE_PIDFD | CLONE_PARENT_SETTID | SIGCHLD, NULL, &fd, NULL, NULL));
    R(syscall(SYS_clone, CLONE_PIDFD | SIGCHLD, NULL, 16, NULL, NULL));
    pid = LATER(30, );
    fd = syscall(SYS_pidfd_open, pid, O_NONBLOCK);
    R(syscall(SYS_waitid, 3, fd, &info, WEXITED, NULL));
    R(syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0));
    ended(pid);
}

static void peers(void)
{
    char mine[100] = "", theirs[100] = "from the other side";
    struct iovec local[2] = {{mine, 5}, {mine + 50, 50}}, remote[2] = {{theirs, 8}, {theirs + 8, 11}};
    pid_t pid = fork();
    if (!pid) {
        prctl(PR_SET_DUMPABLE, 1);
        for (int i = 0; i < 500 && theirs[0] != 'F'; i++)
            usleep(10000);
        printf("%s\n", theirs);
        _exit(0);
    }
    theirs[0] = 0;
    R(syscall(SYS_process_vm_readv, pid, local, 2, remote, 2, 0));
    printf("%s|%s\n", mine, mine + 50);
    remote[1].iov_base = (void *)16;
    R(syscall(SYS_process_vm_readv, pid, local, 2, remote, 2, 0));
    remote[0].iov_base = (void *)16;
    R(syscall(SYS_process_vm_readv, pid, local, 2, remote, 2, 0));
    R(syscall(SYS_process_vm_readv, pid, local, 2, remote, 2, 1));
    R(syscall(SYS_process_vm_readv, 99999999, local, 2, remote, 2, 0));
    R(syscall(SYS_process_vm_readv, pid, local, 0, remote, 2, 0));
    R(syscall(SYS_process_vm_readv, pid, local, 2, remote, 0, 0));
    R(syscall(SYS_process_vm_readv, pid, 16, 2, remote, 2, 0));
    R(syscall(SYS_process_vm_readv, pid, local, 2000, remote, 2, 0));
    strcpy(mine, "FROM ");
    remote[0].iov_base = theirs, local[0].iov_len = 5;
    R(syscall(SYS_process_vm_writev, pid, local, 1, remote, 1, 0));
    ended(pid);
    R(syscall(SYS_membarrier, 0, 0, 0) > 0);
    R(syscall(SYS_membarrier, 1, 0, 0));
    R(syscall(SYS_membarrier, 8, 0, 0));
    R(syscall(SYS_membarrier, 16, 0, 0));
    R(syscall(SYS_membarrier, 8, 0, 0));
    R(syscall(SYS_membarrier, 3, 0, 0));
    R(syscall(SYS_membarrier, 1, 5, 0));
    R(syscall(SYS_unshare, 0));
    R(syscall(SYS_unshare, CLONE_FILES | CLONE_FS));
    R(syscall(SYS_unshare, CLONE_NEWNS));
    R(syscall(SYS_unshare, 1));
    int attr[14] = {0};
    R(syscall(SYS_sched_getattr, 0, attr, 48, 0));
    R(attr[0]), R(attr[1]);
    R(syscall(SYS_sched_getattr, 0, attr, 47, 0));
    R(syscall(SYS_sched_getattr, 0, attr, 48, 1));
    R(syscall(SYS_sched_getattr, -1, attr, 48, 0));
    R(syscall(SYS_sched_getattr, 99999999, attr, 48, 0));
    attr[0] = 48, attr[1] = SCHED_FIFO, attr[5] = 1;
    R(syscall(SYS_sched_setattr, 0, attr, 0));
    attr[1] = 99;
    R(syscall(SYS_sched_setattr, 0, attr, 0));
    attr[0] = 3;
    R(syscall(SYS_sched_setattr, 0, attr, 0));
    R(attr[0] >= 48);
    R(syscall(SYS_sched_setattr, 0, NULL, 0));
    R(syscall(SYS_ioprio_get, 9, 0));
    R(syscall(SYS_ioprio_set, 1, 0, 2 << 13 | 6));
    R(syscall(SYS_ioprio_get, 1, 0));
    R(syscall(SYS_ioprio_set, 1, 0, 1 << 13));
    R(syscall(SYS_ioprio_set, 1, 0, 5 << 13));
    R(syscall(SYS_ioprio_set, 1, 99999999, 2 << 13));
}

static void opening(void)
{
    struct open_how how = {.flags = O_RDWR | O_CREAT, .mode = 0600};
    int fd = syscall(SYS_openat2, AT_FDCWD, "new", &how, sizeof how);
    R(write(fd, "x", 1));
    R(syscall(SYS_openat2, AT_FDCWD, "new", &how, 23));
    R(syscall(SYS_openat2, AT_FDCWD, "new", &how, 5000));
    R(syscall(SYS_openat2, AT_FDCWD, "new", 16, sizeof how));
    how.flags = O_RDONLY;
    R(syscall(SYS_openat2, AT_FDCWD, "new", &how, sizeof how));
    how.mode = 0, how.flags = 1ULL << 40;
    R(syscall(SYS_openat2, AT_FDCWD, "new", &how, sizeof how));
    how.flags = O_RDONLY, how.resolve = 1 << 20;
    R(syscall(SYS_openat2, AT_FDCWD, "new", &how, sizeof how));
    how.resolve = 0, how.flags = O_PATH | O_RDWR;
    R(syscall(SYS_openat2, AT_FDCWD, "new", &how, sizeof how));
    how.flags = O_CLOEXEC;
    R(fcntl(syscall(SYS_openat2, AT_FDCWD, "new", &how, sizeof how), F_GETFD));
}

static void refused(void)
{
    int calls[] = {SYS_swapoff, SYS_reboot, SYS_acct, SYS_vhangup, SYS_pivot_root};
    for (unsigned i = 0; i < sizeof calls / sizeof *calls; i++)
        R(syscall(calls[i], ".", ".", 1, 0, 0));
    int gone[] = {SYS_break, SYS_stty, SYS_gtty, SYS_prof, SYS_lock, SYS_mpx, SYS_ulimit, SYS_profil, SYS_idle,
                  SYS_create_module, SYS_get_kernel_syms, SYS_query_module, SYS_nfsservctl, SYS_getpmsg, SYS_putpmsg,
                  SYS_vserver, SYS_afs_syscall, SYS__sysctl, SYS_bdflush, SYS_vm86};
    for (unsigned i = 0; i < sizeof gone / sizeof *gone; i++)
        R(syscall(gone[i], 1, 2, 3, 4, 5));
    R(syscall(SYS_iopl, 0));
    R(syscall(SYS_iopl, 3));
    R(syscall(SYS_iopl, 4));
    char state[256] = "";
    R(syscall(SYS_adjtimex, 16));
    R(syscall(SYS_clock_adjtime, CLOCK_MONOTONIC, state));
    R(syscall(SYS_clock_adjtime, 99, state));
    R(syscall(SYS_adjtimex, state) >= 0);
    *(int *)state = 2;
    R(syscall(SYS_adjtimex, state));
}

int main(void)
{
    begin();
    errors();
    timers();
    pidfds();
    peers();
    opening();
    refused();
    return 0;
}
