/* Handlers, masks, siginfo, an alternate stack, a fault caught and left by siglongjmp, a timer and sigsuspend. */
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

static volatile sig_atomic_t count, last_code, on_alternate;
static char room[65536];
static sigjmp_buf back;

static void plain(int number) { count += number; }

static void detailed(int number, siginfo_t *info, void *context) {
    char here;
    (void)context;
    count += number;
    last_code = info->si_code;
    on_alternate = &here >= room && &here < room + sizeof room;
}

static void fault(int number) { siglongjmp(back, number); }

int main(void) {
    struct sigaction action = {0};
    sigset_t set, pending;
    stack_t stack = {.ss_sp = room, .ss_size = sizeof room};
    signal(SIGUSR1, plain);
    raise(SIGUSR1);
    printf("plain %d\n", (int)count);
    sigaltstack(&stack, NULL);
    action.sa_sigaction = detailed, action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGUSR2, &action, NULL);
    sigemptyset(&set), sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    kill(getpid(), SIGUSR2);
    sigpending(&pending);
    printf("blocked %d, pending %d\n", (int)count, sigismember(&pending, SIGUSR2));
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    printf("delivered %d, code %d, alternate %d\n", (int)count, (int)last_code, (int)on_alternate);
    action.sa_handler = fault, action.sa_flags = 0;
    sigaction(SIGSEGV, &action, NULL), sigaction(SIGFPE, &action, NULL);
    volatile int zero = 0, caught = sigsetjmp(back, 1);
    if (!caught) *(volatile int *)zero = 1;
    printf("caught %d\n", caught);
    caught = sigsetjmp(back, 1);
    if (!caught) __asm__ volatile("xorl %%edx, %%edx\n\tdivl %%edx" : : : "eax", "edx");
    printf("caught %d\n", caught);
    signal(SIGALRM, plain);
    struct itimerval soon = {.it_value = {.tv_usec = 10000}};
    sigaddset(&set, SIGALRM), sigprocmask(SIG_BLOCK, &set, &pending);
    setitimer(ITIMER_REAL, &soon, NULL);
    sigsuspend(&pending); /* pause could come too late for it */
    printf("woken %d\n", (int)count);
    fflush(stdout);
    signal(SIGTERM, SIG_DFL);
    raise(SIGTERM);
    return 1;
}
