/* Faults, signal frames and signal calls: what a handler sees, what each call returns. Run natively and as a guest. */
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static void show(const char *what, long result)
{
    if (result == -1)
        printf("%s = %s\n", what, strerrorname_np(errno));
    else
        printf("%s = %ld\n", what, result);
}

#define R(call) (errno = 0, show(#call, (long)(call)))

static sigjmp_buf back;
static volatile int count;

static void on_fault(int signo, siginfo_t *info, void *context)
{
    const ucontext_t *uc = context;
    const greg_t *r = uc->uc_mcontext.gregs;
    const unsigned *fpu = (const unsigned *)uc->uc_mcontext.fpregs;
    const char *address = info->si_addr == (void *)r[REG_EIP] ? "eip" : info->si_addr ? "other" : "0";
    printf("  signal %d %d errno %d code %d address %s\n", signo, info->si_signo, info->si_errno, info->si_code, address);
    printf("  trapno %d err %x cr2 %d\n", r[REG_TRAPNO], r[REG_ERR], uc->uc_mcontext.cr2 == (unsigned long)info->si_addr);
    printf("  cs %x ss %x ds %x es %x fs %x\n", r[REG_CS] & 0xffff, r[REG_SS] & 0xffff, r[REG_DS] & 0xffff,
           r[REG_ES] & 0xffff, r[REG_FS] & 0xffff);
    printf("  mask %lx stack flags %d link %p uesp %d\n", uc->uc_mcontext.oldmask, uc->uc_stack.ss_flags,
           (void *)uc->uc_link, r[REG_ESP] == r[REG_UESP]);
    printf("  fpu %x %x %x %x\n", fpu[0], fpu[1] & 0xffff, fpu[2], fpu[27] & 0xffff);
    siglongjmp(back, 1);
}

static void catch(int signo, void (*handler)(int, siginfo_t *, void *), int flags)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};
    sigaction(signo, &action, 0);
}

#define TRY(...)                        \
    do {                                \
        puts(#__VA_ARGS__);             \
        if (!sigsetjmp(back, 1)) {      \
            __VA_ARGS__;                \
            puts("  no fault");         \
        }                               \
    } while (0)

static void faults(void)
{
    const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
    for (int i = 0; i < 5; i++)
        catch(signals[i], on_fault, 0);
    volatile int zero = 0, quotient;
    int bounds[2] = {1, 2};
    unsigned short unmasked = 0x37b;
    char *readable = mmap(0, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    TRY(*(volatile int *)0);
    TRY(*(volatile int *)4 = 1);
    TRY(*(volatile char *)0xfffffff0);
    TRY(quotient = 1 / zero);
    TRY(asm volatile("ud2"));
    TRY(asm volatile("int3"));
    TRY(asm volatile(".byte 0xf1"));
    TRY(asm volatile("mov $0x7fffffff, %%eax; add $1, %%eax; into" ::: "eax", "cc"));
    TRY(asm volatile("hlt"));
    TRY(asm volatile("int $5"));
    TRY(asm volatile("mov $5, %%eax; bound %%eax, %0" ::"m"(bounds) : "eax"));
    TRY(asm volatile("mov %0, %%fs" ::"r"(0x1234)));
    TRY(asm volatile("pushf; orl $0x100, (%%esp); popf; nop; nop" ::: "cc", "memory"));
    TRY(asm volatile("fninit; fldcw %0; fldz; fld1; fdivp; fwait" ::"m"(unmasked)));
    asm volatile("fninit");
    TRY(*(volatile char *)readable = 1);
    TRY(((void (*)(void))readable)());
    TRY(mprotect(readable, 4096, PROT_NONE); (void)*(volatile char *)readable);
    (void)quotient;
}

static void nest(int signo)
{
    sigset_t mask;
    sigprocmask(0, 0, &mask);
    printf("nest %d: %d %d %d\n", signo, sigismember(&mask, SIGUSR1), sigismember(&mask, SIGUSR2),
           sigismember(&mask, SIGTERM));
    if (signo == SIGUSR1)
        raise(SIGUSR2);
    printf("nest %d ends\n", signo);
}

static void told(int signo, siginfo_t *info, void *context)
{
    (void)context;
    count++;
    printf("told %d code %d value %d\n", signo, info->si_code, info->si_code == SI_QUEUE ? info->si_value.sival_int : 0);
}

static void on_other_stack(int signo, siginfo_t *info, void *context)
{
    stack_t stack;
    char here;
    (void)signo;
    (void)info;
    sigaltstack(0, &stack);
    printf("flags %d there %d frame %d\n", stack.ss_flags,
           &here >= (char *)stack.ss_sp && &here < (char *)stack.ss_sp + stack.ss_size,
           ((ucontext_t *)context)->uc_stack.ss_flags);
    stack.ss_flags = 0;
    R(sigaltstack(&stack, 0));
}

static void handlers(void)
{
    struct sigaction action = {.sa_handler = nest}, old;
    sigset_t blocked, before, pending, none;
    sigaddset(&action.sa_mask, SIGTERM);
    sigaction(SIGUSR1, &action, 0);
    sigaction(SIGUSR2, &action, 0);
    raise(SIGUSR1);
    sigaddset(&action.sa_mask, SIGUSR2);
    sigaction(SIGUSR1, &action, 0);
    raise(SIGUSR1);
    catch(SIGUSR1, told, SA_RESETHAND | SA_NODEFER);
    raise(SIGUSR1);
    sigaction(SIGUSR1, 0, &old);
    printf("reset %d flags %x\n", old.sa_handler == SIG_DFL, old.sa_flags & ~0x04000000);
    catch(SIGRTMIN + 1, told, 0);
    catch(SIGUSR1, told, 0);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGRTMIN + 1);
    sigaddset(&blocked, SIGUSR1);
    sigprocmask(SIG_BLOCK, &blocked, &before);
    for (int i = 0; i < 4; i++) {
        union sigval value = {.sival_int = i};
        sigqueue(getpid(), SIGRTMIN + 1, value);
        sigqueue(getpid(), SIGUSR1, value);
    }
    sigpending(&pending);
    printf("pending %d %d\n", sigismember(&pending, SIGRTMIN + 1), sigismember(&pending, SIGUSR1));
    sigprocmask(SIG_SETMASK, &before, 0);
    printf("told %d times\n", count);
    sigprocmask(SIG_BLOCK, &blocked, 0);
    kill(getpid(), SIGUSR1);
    sigemptyset(&none);
    R(sigsuspend(&none));
    struct timespec time = {0, 1000};
    siginfo_t info;
    R(sigtimedwait(&blocked, &info, &time));
    kill(getpid(), SIGUSR1);
    R(sigtimedwait(&blocked, &info, &time));
    R(info.si_code);
    time.tv_nsec = -1;
    R(sigtimedwait(&blocked, &info, &time));
    sigprocmask(SIG_SETMASK, &before, 0);
    R(syscall(SYS_signal, SIGHUP, nest));
    kill(getpid(), SIGHUP);
    R(syscall(SYS_signal, SIGHUP, SIG_DFL));
}

static void other_stack(void)
{
    stack_t stack = {.ss_sp = malloc(65536), .ss_size = 65536}, now;
    R(sigaltstack(&stack, 0));
    catch(SIGUSR2, on_other_stack, SA_ONSTACK);
    raise(SIGUSR2);
    sigaltstack(0, &now);
    R(now.ss_flags);
    stack.ss_size = 100;
    R(sigaltstack(&stack, 0));
    stack.ss_flags = 77;
    R(sigaltstack(&stack, 0));
    stack.ss_flags = SS_DISABLE;
    R(sigaltstack(&stack, 0));
    sigaltstack(0, &now);
    R(now.ss_flags * 1000 + now.ss_size);
}

static void errors(void)
{
    struct sigaction action = {.sa_handler = nest, .sa_flags = 0x12345678}, old;
    sigset_t set;
    sigemptyset(&set);
    R(kill(0, 65));
    R(kill(99999, 0));
    R(sigaction(SIGKILL, &action, 0));
    R(syscall(SYS_rt_sigaction, 0, 0, 0, 8));
    R(syscall(SYS_rt_sigaction, 10, 0, 0, 4));
    R(syscall(SYS_tkill, 0, 1));
    R(syscall(SYS_tgkill, 1, 0, 1));
    R(syscall(SYS_rt_sigprocmask, 9, &set, 0, 8));
    R(syscall(SYS_rt_sigprocmask, 9, 0, 0, 8));
    R(syscall(SYS_rt_sigprocmask, 0, 4, 0, 8));
    R(syscall(SYS_sigaltstack, 0, 0));
    sigaction(SIGTERM, &action, 0);
    sigaction(SIGTERM, 0, &old);
    R(old.sa_flags & ~0x04000000);
    signal(SIGTERM, SIG_DFL);
}

static void timers(void)
{
    struct itimerval timer = {.it_value = {0, 2000}};
    signal(SIGALRM, nest);
    R(setitimer(ITIMER_REAL, &timer, 0));
    R(pause());
    getitimer(ITIMER_REAL, &timer);
    R(timer.it_value.tv_sec + timer.it_value.tv_usec);
    alarm(100);
    R(alarm(0));
    timer.it_value.tv_usec = 1000000;
    R(setitimer(ITIMER_REAL, &timer, 0));
    R(setitimer(3, &timer, 0));
}

int main(void)
{
    setvbuf(stdout, 0, _IONBF, 0);
    faults();
    handlers();
    other_stack();
    errors();
    timers();
    return 0;
}
