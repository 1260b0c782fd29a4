/* XMM registers and MXCSR where the kernel keeps them: signal frames, faults, fork, exec. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

typedef struct {
    uint32_t w[4];
} xmm;

static xmm all[8];
static uint32_t mxcsr;

static void load(uint32_t seed)
{
    for (int n = 0; n < 8; n++)
        for (int k = 0; k < 4; k++)
            all[n].w[k] = seed * 0x01010101u + n * 0x11000u + k;
    __asm__ volatile("movups (%0),%%xmm0; movups 16(%0),%%xmm1; movups 32(%0),%%xmm2; movups 48(%0),%%xmm3;"
                     "movups 64(%0),%%xmm4; movups 80(%0),%%xmm5; movups 96(%0),%%xmm6; movups 112(%0),%%xmm7"
                     : : "r"(all) : "memory");
}

static void store(void)
{
    __asm__ volatile("movups %%xmm0,(%0); movups %%xmm1,16(%0); movups %%xmm2,32(%0); movups %%xmm3,48(%0);"
                     "movups %%xmm4,64(%0); movups %%xmm5,80(%0); movups %%xmm6,96(%0); movups %%xmm7,112(%0);"
                     "stmxcsr %1"
                     : : "r"(all), "m"(mxcsr) : "memory");
}

static void show(const char *what)
{
    printf("%s: mxcsr %x", what, mxcsr);
    for (int n = 0; n < 8; n++)
        printf(" %08x%08x", all[n].w[3], all[n].w[0]);
    printf("\n");
}

static void set(uint32_t value)
{
    __asm__ volatile("ldmxcsr %0" : : "m"(value));
}

static volatile int change;

static void handler(int number, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    unsigned char *frame = (void *)uc->uc_mcontext.fpregs;
    uint32_t word;
    xmm third;
    (void)info;
    memcpy(&word, frame + 112 + 24, 4);
    memcpy(&third, frame + 112 + 160 + 48, 16);
    printf("signal %d: magic %x, mxcsr %x, xmm3 %08x..%08x, aligned %d\n", number, frame[110] | frame[111] << 8, word,
           third.w[3], third.w[0], (int)((uintptr_t)(frame + 112) % 64));
    if (change) {
        word = 0x7f80;
        memcpy(frame + 112 + 24, &word, 4);
        memset(frame + 112 + 160 + 16, 0xab, 16);
    }
    set(0x1f80);
    load(99);
}

static void fault(int number, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    unsigned char *frame = (void *)uc->uc_mcontext.fpregs;
    uint32_t word;
    memcpy(&word, frame + 112 + 24, 4);
    printf("signal %d code %d trap %d error %d at eip %d mxcsr %x\n", number, info->si_code,
           (int)uc->uc_mcontext.gregs[REG_TRAPNO], (int)uc->uc_mcontext.gregs[REG_ERR],
           info->si_addr == (void *)uc->uc_mcontext.gregs[REG_EIP], word);
    word = 0x1f80;
    memcpy(frame + 112 + 24, &word, 4);
    if (number != SIGFPE)
        uc->uc_mcontext.gregs[REG_EIP] += 3; /* movaps (%eax),%xmm0 */
}

static void unmasked(const char *what, uint32_t control, float x, float y)
{
    float result = x;
    printf("%s\n", what);
    fflush(stdout);
    set(control);
    __asm__ volatile("movss %1,%%xmm0; divss %2,%%xmm0; movss %%xmm0,%0" : "=m"(result) : "m"(x), "m"(y));
    store();
    printf("then %g, mxcsr %x\n", result, mxcsr);
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    struct sigaction faults = {.sa_sigaction = fault, .sa_flags = SA_SIGINFO};
    int status;
    if (argc > 1) {
        store();
        printf("executed: mxcsr %x\n", mxcsr);
        return 0;
    }
    set(0x1f80);
    load(1);
    set(0x3fa5);
    store();
    show("loaded");
    sigaction(SIGUSR1, &action, NULL);
    load(2);
    kill(getpid(), SIGUSR1);
    store();
    show("after a handler");
    change = 1;
    load(3);
    kill(getpid(), SIGUSR1);
    store();
    show("changed by a handler");
    fflush(stdout);
    load(4);
    if (fork() == 0) {
        store();
        show("child");
        fflush(stdout);
        execl("/proc/self/exe", argv[0], "again", NULL);
        return 1;
    }
    store();
    wait(&status);
    show("parent");
    sigaction(SIGFPE, &faults, NULL);
    sigaction(SIGSEGV, &faults, NULL);
    unmasked("division by zero", 0x1d80, 1, 0);
    unmasked("invalid", 0x1f00, 0, 0);
    unmasked("denormal", 0x1e80, 1e-40f, 2);
    unmasked("overflow", 0x1b80, 1e38f, 1e-10f);
    unmasked("underflow", 0x1780, 1e-38f, 1e10f);
    unmasked("inexact", 0x0f80, 1, 3);
    unmasked("two: divide by zero is not masked, inexact neither", 0x0d80, 1, 0);
    __asm__ volatile("movl %0,%%eax; movaps (%%eax),%%xmm0" : : "r"((char *)all + 1) : "eax");
    return 0;
}
