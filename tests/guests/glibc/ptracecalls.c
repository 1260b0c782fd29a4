/* Tracing: stops for signals, calls, steps and events; registers and memory of another process; attaching, detaching. */
#include "calls.h"
#include <elf.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/user.h>


static volatile int word = 0x12345678;
static pid_t child;
static struct user_regs_struct regs;

static long trace(int request, pid_t pid, void *addr, void *data) { return syscall(SYS_ptrace, request, pid, addr, data); }

#define P(request, addr, data) R(trace(request, child, (void *)(addr), (void *)(data)))

static int seen(const char *what, int options)
{
    int status = 0;
    pid_t found = waitpid(child, &status, options | __WALL);
    printf("%s: ", what);
    if (found != child)
        printf("%s\n", found < 0 ? strerrorname_np(errno) : "nothing");
    else if (WIFSTOPPED(status))
        printf("stopped %#x\n", status >> 8);
    else if (WIFSIGNALED(status))
        printf("killed by %d\n", WTERMSIG(status));
    else if (WIFCONTINUED(status))
        printf("continued\n");
    else
        printf("exit %d\n", WEXITSTATUS(status));
    return status;
}

static void start(void (*what)(void))
{
    child = fork();
    if (!child) {
        trace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        what();
        _exit(5);
    }
    seen("started", 0);
}

static void quits(void) { _exit(7); }
static void kills(void)
{
    on(SIGUSR1, 0);
    raise(SIGUSR1);
    raise(SIGUSR2);
    _exit(count + 20);
}
static void asks(void)
{
    getppid();
    syscall(SYS_getuid32);
    _exit(3);
}
static void spins(void)
{
    for (;;)
        getppid();
}
static void forks(void)
{
    pid_t pid = fork();
    if (!pid)
        _exit(4);
    waitpid(pid, NULL, 0);
    _exit(6);
}
static void vforks(void)
{
    pid_t pid = vfork();
    if (!pid)
        _exit(4);
    waitpid(pid, NULL, 0);
    _exit(6);
}
static void *threads_body(void *arg) { return arg; }
static void clones(void)
{
    pthread_t thread;
    pthread_create(&thread, NULL, threads_body, NULL);
    pthread_join(thread, NULL);
    _exit(6);
}
static void execs(void)
{
    execl("/proc/self/exe", "ptracecalls", "again", NULL);
    _exit(9);
}
static void sleeps(void)
{
    struct timespec t = {0, 50000000};
    int result = nanosleep(&t, NULL);
    _exit(result ? 1 : 2);
}
static void steps(void)
{
    __asm__ volatile("mov $1, %%eax\n\tmov $2, %%ecx\n\tadd %%ecx, %%eax\n\tnop" : : : "eax", "ecx");
    _exit(1);
}
static void traps(void)
{
    __asm__ volatile("int3");
    _exit(1);
}
static void faults(void) { *(volatile int *)16 = 1; }

static void general(void)
{
    long value = 0;
    siginfo_t info;
    R(trace(PTRACE_PEEKDATA, 1 << 20, 0, &value));
    R(trace(PTRACE_CONT, getpid(), 0, 0));
    R(trace(PTRACE_ATTACH, getpid(), 0, 0));
    R(trace(PTRACE_ATTACH, 1 << 20, 0, 0));
    start(quits);
    P(PTRACE_PEEKDATA, &word, &value);
    R(value);
    P(PTRACE_PEEKTEXT, &word, 8);
    P(PTRACE_PEEKDATA, 16, &value);
    P(PTRACE_POKEDATA, &word, 0x55667788);
    P(PTRACE_PEEKDATA, &word, &value);
    R(value);
    R(word);
    P(PTRACE_POKEDATA, 16, 0);
    P(PTRACE_POKETEXT, quits, 0x90909090);
    P(PTRACE_PEEKUSER, 0, &value);
    P(PTRACE_PEEKUSER, 1, &value);
    P(PTRACE_PEEKUSER, 4 * 11, &value);
    R(value != 0);
    P(PTRACE_PEEKUSER, sizeof(struct user), &value);
    P(PTRACE_PEEKUSER, offsetof(struct user, u_debugreg), &value);
    R(value);
    P(PTRACE_POKEUSER, offsetof(struct user, u_debugreg), &word);
    P(PTRACE_PEEKUSER, offsetof(struct user, u_debugreg), &value);
    R(value == (long)&word);
    P(PTRACE_POKEUSER, 4 * 13, 0);
    P(PTRACE_POKEUSER, 4 * 7, 5);
    P(PTRACE_GETREGS, 0, &regs);
    R(regs.xcs);
    R(regs.xss);
    R(regs.xds);
    R(regs.eflags & 0x100);
    P(PTRACE_GETREGS, 0, 8);
    regs.ebx = 77, regs.eflags |= 0x3000;
    P(PTRACE_SETREGS, 0, &regs);
    P(PTRACE_GETREGS, 0, &regs);
    R(regs.ebx);
    R(regs.eflags & 0x3000);
    P(PTRACE_GETSIGINFO, 0, &info);
    R(info.si_signo);
    R(info.si_code);
    R(info.si_pid == child);
    P(PTRACE_GETEVENTMSG, 0, &value);
    P(PTRACE_SETOPTIONS, 0, 0x80000000);
    P(PTRACE_SETOPTIONS, 0, PTRACE_O_TRACESYSGOOD);
    P(PTRACE_CONT, 0, 99);
    P(PTRACE_LISTEN, 0, 0);
    P(PTRACE_INTERRUPT, 0, 0);
    P(0x7777, 0, 0);
    P(PTRACE_ATTACH, 0, 0);
    unsigned long long mask = 0;
    P(PTRACE_GETSIGMASK, 8, &mask);
    P(PTRACE_GETSIGMASK, 4, &mask);
    P(PTRACE_DETACH, 0, 0);
    P(PTRACE_GETREGS, 0, &regs);
    seen("detached", 0);
}

static void sets(void)
{
    struct user_fpregs_struct fp;
    struct user_fpxregs_struct fx;
    struct iovec iov = {buffer, 4096};
    start(quits);
    P(PTRACE_GETFPREGS, 0, &fp);
    R(fp.cwd & 0xffff);
    R(fp.twd & 0xffff);
    fp.cwd = 0xffff0c7f;
    P(PTRACE_SETFPREGS, 0, &fp);
    P(PTRACE_GETFPXREGS, 0, &fx);
    R(fx.cwd);
    R(fx.mxcsr);
    fx.xmm_space[0] = 0x1234;
    P(PTRACE_SETFPXREGS, 0, &fx);
    P(PTRACE_GETFPXREGS, 0, &fx);
    R(fx.xmm_space[0]);
    fx.mxcsr = 0xffffffff;
    P(PTRACE_SETFPXREGS, 0, &fx);
    P(PTRACE_GETREGSET, NT_PRSTATUS, &iov);
    R(iov.iov_len);
    iov.iov_len = 12;
    P(PTRACE_GETREGSET, NT_PRSTATUS, &iov);
    R(iov.iov_len);
    P(PTRACE_SETREGSET, NT_PRSTATUS, &iov);
    iov.iov_len = 13;
    P(PTRACE_GETREGSET, NT_PRSTATUS, &iov);
    iov.iov_len = 4096;
    P(PTRACE_GETREGSET, NT_PRFPREG, &iov);
    R(iov.iov_len);
    iov.iov_len = 4096;
    P(PTRACE_GETREGSET, 0x999, &iov);
    P(PTRACE_GETREGSET, NT_PRSTATUS, 8);
    P(PTRACE_CONT, 0, 0);
    seen("end", 0);
}

static void signals(void)
{
    siginfo_t info;
    start(kills);
    P(PTRACE_CONT, 0, 0);
    seen("USR1", 0);
    P(PTRACE_GETSIGINFO, 0, &info);
    R(info.si_signo);
    R(info.si_code);
    P(PTRACE_CONT, 0, SIGUSR1);
    seen("USR2", 0);
    P(PTRACE_CONT, 0, 0);
    seen("end", 0);
    start(kills);
    P(PTRACE_CONT, 0, 0);
    seen("USR1", 0);
    P(PTRACE_CONT, 0, SIGTERM);
    seen("end", 0);
    start(traps);
    P(PTRACE_CONT, 0, 0);
    seen("int3", 0);
    P(PTRACE_GETSIGINFO, 0, &info);
    R(info.si_code);
    P(PTRACE_CONT, 0, 0);
    seen("end", 0);
    start(faults);
    P(PTRACE_CONT, 0, 0);
    seen("fault", 0);
    P(PTRACE_GETSIGINFO, 0, &info);
    R(info.si_code);
    R((long)info.si_addr);
    P(PTRACE_CONT, 0, SIGSEGV);
    seen("end", 0);
    start(spins);
    P(PTRACE_KILL, 0, 0);
    seen("end", 0);
    start(spins);
    P(PTRACE_CONT, 0, 0);
    R(kill(child, SIGSTOP));
    seen("stop", 0);
    P(PTRACE_CONT, 0, SIGSTOP);
    seen("group stop", 0);
    P(PTRACE_GETSIGINFO, 0, &info);
    P(PTRACE_CONT, 0, 0);
    R(kill(child, SIGKILL));
    seen("end", 0);
    waitid(P_ALL, 0, &info, WEXITED | WNOHANG);
    R(waitpid(-1, NULL, WNOHANG | __WALL));
}

static void calls(void)
{
    struct __ptrace_syscall_info info;
    start(asks);
    P(PTRACE_SETOPTIONS, 0, PTRACE_O_TRACESYSGOOD);
    for (int i = 0; i < 2; i++) {
        P(PTRACE_SYSCALL, 0, 0);
        seen("entry", 0);
        P(PTRACE_GETREGS, 0, &regs);
        R(regs.orig_eax);
        R(regs.eax);
        memset(&info, 0, sizeof info);
        P(PTRACE_GET_SYSCALL_INFO, sizeof info, &info);
        R(info.op);
        R(info.arch == 0x40000003);
        R(info.entry.nr);
        if (i == 1) {
            regs.orig_eax = SYS_getpid;
            P(PTRACE_SETREGS, 0, &regs);
        }
        P(PTRACE_SYSCALL, 0, 0);
        seen("exit", 0);
        P(PTRACE_GETREGS, 0, &regs);
        R(regs.eax == (i ? child : getpid()));
        P(PTRACE_GET_SYSCALL_INFO, sizeof info, &info);
        R(info.op);
        R(info.exit.is_error);
        R(trace(PTRACE_GET_SYSCALL_INFO, child, (void *)24, &info));
    }
    P(PTRACE_SYSCALL, 0, 0);
    seen("entry", 0);
    P(PTRACE_SYSCALL, 0, 0);
    seen("end", 0);
    start(asks);
    P(PTRACE_SYSCALL, 0, 0);
    seen("entry without TRACESYSGOOD", 0);
    regs.orig_eax = 0;
    P(PTRACE_POKEUSER, 4 * 11, -1);
    P(PTRACE_SYSCALL, 0, 0);
    seen("exit", 0);
    P(PTRACE_GETREGS, 0, &regs);
    R(regs.eax);
    P(PTRACE_CONT, 0, 0);
    seen("end", 0);
    start(asks);
    P(PTRACE_SYSEMU, 0, 0);
    seen("emulated", 0);
    P(PTRACE_GETREGS, 0, &regs);
    regs.eax = 4711;
    P(PTRACE_SETREGS, 0, &regs);
    P(PTRACE_SYSEMU, 0, 0);
    seen("emulated", 0);
    P(PTRACE_GETREGS, 0, &regs);
    R(regs.orig_eax);
    P(PTRACE_CONT, 0, 0);
    seen("end", 0);
    start(sleeps);
    P(PTRACE_SETOPTIONS, 0, PTRACE_O_TRACESYSGOOD);
    P(PTRACE_SYSCALL, 0, 0);
    seen("entry", 0);
    P(PTRACE_SYSCALL, 0, 0);
    seen("exit", 0);
    P(PTRACE_CONT, 0, 0);
    seen("end", 0);
}

static void single_steps(void)
{
    start(steps);
    int changes = 0;
    long last_eip = 0;
    siginfo_t info;
    for (int i = 0; i < 12; i++) {
        trace(PTRACE_SINGLESTEP, child, 0, 0);
        int status = 0;
        waitpid(child, &status, 0);
        trace(PTRACE_GETREGS, child, 0, &regs);
        changes += regs.eip != last_eip && status >> 8 == SIGTRAP;
        last_eip = regs.eip;
    }
    R(changes);
    R(regs.eflags & 0x100);
    P(PTRACE_GETSIGINFO, 0, &info);
    R(info.si_signo);
    P(PTRACE_CONT, 0, 0);
    seen("end", 0);
}

static void event(void (*what)(void), const char *name, int option)
{
    unsigned long message = 0;
    int status;
    printf("--- %s\n", name);
    start(what);
    P(PTRACE_SETOPTIONS, 0, option);
    P(PTRACE_CONT, 0, 0);
    seen("event", 0);
    P(PTRACE_GETEVENTMSG, 0, &message);
    if (option & (PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE)) {
        R(message > (unsigned long)child);
        R(waitpid(message, &status, __WALL) == (pid_t)message);
        R(status >> 8);
        R(trace(PTRACE_CONT, message, 0, 0));
        P(PTRACE_CONT, 0, 0);
        if (!(option & PTRACE_O_TRACECLONE)) {
            if (option & PTRACE_O_TRACEVFORKDONE) {
                seen("vfork done", 0);
                P(PTRACE_CONT, 0, 0);
            }
            R(waitpid(message, &status, __WALL) == (pid_t)message);
            R(status);
            seen("SIGCHLD", 0);
            P(PTRACE_CONT, 0, SIGCHLD);
        } else {
            R(waitpid(message, &status, __WALL) == (pid_t)message);
            R(status == 0 || status == 6 << 8); /* the thread's own end, or the exit of the process comes first */
        }
    } else {
        if (option & PTRACE_O_TRACEEXIT)
            R(message);
        P(PTRACE_CONT, 0, 0);
    }
    seen("end", 0);
}

static void attaching(void)
{
    int status;
    child = fork();
    if (!child)
        spins();
    P(PTRACE_ATTACH, 0, 0);
    seen("attached", 0);
    P(PTRACE_CONT, 0, 0);
    P(PTRACE_GETREGS, 0, &regs);
    R(kill(child, SIGUSR2));
    seen("USR2", 0);
    P(PTRACE_DETACH, 0, 0);
    R(waitpid(child, &status, WNOHANG));
    P(PTRACE_SEIZE, 0, 0x80000000);
    P(PTRACE_SEIZE, 0, PTRACE_O_TRACESYSGOOD);
    P(PTRACE_SEIZE, 0, 0);
    R(waitpid(child, &status, WNOHANG));
    P(PTRACE_INTERRUPT, 0, 0);
    seen("interrupted", 0);
    P(PTRACE_GETREGS, 0, &regs);
    P(PTRACE_CONT, 0, 0);
    R(kill(child, SIGSTOP));
    seen("signal", 0);
    P(PTRACE_CONT, 0, SIGSTOP);
    seen("group stop", 0);
    P(PTRACE_LISTEN, 0, 0);
    P(PTRACE_GETREGS, 0, &regs);
    R(kill(child, SIGCONT));
    seen("resumed", 0);
    P(PTRACE_CONT, 0, 0);
    seen("SIGCONT", 0);
    P(PTRACE_CONT, 0, 0);
    P(PTRACE_INTERRUPT, 0, 0);
    seen("interrupted", 0);
    P(PTRACE_DETACH, 0, SIGTERM);
    R(waitpid(child, &status, WNOHANG));
    R(kill(child, SIGTERM));
    seen("end", 0);
    child = fork();
    if (!child) {
        struct timespec t = {0, 60000000};
        _exit(nanosleep(&t, NULL) ? 1 : 2);
    }
    usleep(10000);
    P(PTRACE_SEIZE, 0, PTRACE_O_TRACESYSGOOD);
    P(PTRACE_INTERRUPT, 0, 0);
    seen("interrupted", 0);
    P(PTRACE_CONT, 0, 0);
    seen("end", 0);
    /* a tracer that ends */
    for (int kills = 0; kills < 2; kills++) {
        child = fork();
        if (!child)
            spins();
        pid_t tracer = fork();
        if (!tracer) {
            P(PTRACE_SEIZE, 0, kills ? PTRACE_O_EXITKILL : 0);
            _exit(0);
        }
        waitpid(tracer, NULL, 0);
        usleep(20000);
        seen("left alone", WNOHANG);
        kill(child, SIGTERM);
        if (!kills)
            seen("end", 0);
    }
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return 11;
    (void)argv;
    begin();
    general();
    sets();
    signals();
    calls();
    single_steps();
    event(forks, "fork", PTRACE_O_TRACEFORK);
    event(vforks, "vfork", PTRACE_O_TRACEVFORK | PTRACE_O_TRACEVFORKDONE);
    event(clones, "clone", PTRACE_O_TRACECLONE);
    event(execs, "exec", PTRACE_O_TRACEEXEC);
    event(quits, "exit", PTRACE_O_TRACEEXIT);
    start(execs);
    P(PTRACE_CONT, 0, 0);
    seen("exec without an option", 0);
    P(PTRACE_CONT, 0, 0);
    seen("end", 0);
    attaching();
    return 0;
}
