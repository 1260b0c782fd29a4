/* The XSAVE area of signal frames: what a handler sees there, and what the way back makes of what it wrote. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

enum { FREGS = 112, CONTROL = 0, MXCSR = 24, XMM = 160, SOFTWARE = 464, HEADER = 512, HIGH = 576 };

static uint8_t state[832] __attribute__((aligned(64)));
static int experiment;

static uint32_t word(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, 4);
    return value;
}

static void put(uint8_t *at, uint32_t value)
{
    memcpy(at, &value, 4);
}

/* Set x87, XMM and YMM to values that are told apart, or, with no components, to the initial ones. */
static void load(int components)
{
    memset(state, 0, sizeof state);
    for (int n = 0; n < 8; n++)
        for (int k = 0; k < 32; k++)
            state[(k < 16 ? XMM : HIGH - 16) + 16 * n + k] = (uint8_t)(16 * n + k + 1);
    put(state, 0x3800027f), state[4] = 0x80, state[32 + 7] = 0x80; /* one register, which holds a denormal */
    put(state + MXCSR, components ? 0x3f80 : 0x1f80);
    state[HEADER] = (uint8_t)components;
    __asm__ volatile("xrstor %0" : : "m"(state), "a"(7), "d"(0));
}

static void show(void)
{
    memset(state, 0, sizeof state);
    __asm__ volatile("xsave %0" : "+m"(state) : "a"(7), "d"(0));
    printf("  mxcsr %x control %x tags %x", word(state + MXCSR), word(state), state[4]);
    for (int n = 0; n < 8; n += 7)
        printf(" ymm%d %02x..%02x %02x..%02x", n, state[XMM + 16 * n], state[XMM + 16 * n + 15],
               state[HIGH + 16 * n], state[HIGH + 16 * n + 15]);
    printf("\n");
    fflush(stdout);
}

static const char *const names[] = {
    "nothing", "upper half", "no AVX", "no SSE", "no x87", "none at all", "no magic", "no second magic",
    "XCOMP_BV", "reserved", "unknown component", "MXCSR", "MXCSR without magic", "xfeatures without AVX", "no pointer",
    "wild pointer", "size too small", "size too large", "extended_size too small", "MXCSR, no component",
    "x87 words", "XMM0", "AVX alone", "supervisor component", "control word of the area", "pointer not aligned",
};

static void change(ucontext_t *uc, uint8_t *fp)
{
    uint8_t *area = fp + FREGS, *header = area + HEADER;
    uint32_t size = word(area + SOFTWARE + 16);
    switch (experiment) {
    case 1: memset(area + HIGH, 0xee, 16); break;
    case 2: header[0] &= ~4; break;
    case 3: header[0] &= ~2; break;
    case 4: header[0] &= ~1; break;
    case 5: header[0] = 0; break;
    case 6: put(area + SOFTWARE, 0); break;
    case 7: put(area + size, 0); break;
    case 8: header[15] = 0x80; break;
    case 9: header[63] = 1; break;
    case 10: header[7] = 0x20; break;
    case 11: put(area + MXCSR, 0x11f80); break;
    case 12: put(area + SOFTWARE, 0), put(area + MXCSR, 0x11f80); break;
    case 13: area[SOFTWARE + 8] &= ~4; break;
    case 14: uc->uc_mcontext.fpregs = 0; break;
    case 15: uc->uc_mcontext.fpregs = (void *)16; break;
    case 16: put(area + SOFTWARE + 16, 575); break;
    case 17: put(area + SOFTWARE + 16, size + 64); break;
    case 18: put(area + SOFTWARE + 4, size - 1); break;
    case 19: header[0] = 0, put(area + MXCSR, 0x11f80); break;
    case 20: put(fp, 0xffff0f7f), put(fp + 8, 0xffffffff); break;
    case 21: memset(area + XMM, 0xdd, 16); break;
    case 22: header[0] = 4; break;
    case 23: header[1] = 1; break;
    case 24: put(area + CONTROL, 0xf7f); break;
    case 25: {
        uint8_t *moved = fp - 4096 + 4;
        memcpy(moved, fp, FREGS + size + 4);
        uc->uc_mcontext.fpregs = (void *)moved;
        break;
    }
    }
}

static void handler(int number, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    uint8_t *fp = (void *)uc->uc_mcontext.fpregs, *area = fp + FREGS;
    uint32_t size = word(area + SOFTWARE + 16);
    (void)number, (void)info;
    if (!experiment)
        printf("  magic %x %x sizes %d features %x header %x %x mxcsr %x mask %x xmm0 %02x upper %02x %02x aligned %d\n",
               word(area + SOFTWARE), word(area + size), (int)(word(area + SOFTWARE + 4) - size),
               word(area + SOFTWARE + 8) & 7, word(area + HEADER) & 7, word(area + HEADER + 12), word(area + MXCSR),
               word(area + MXCSR + 4) & 0xffff, area[XMM], area[HIGH], area[HIGH + 16 * 7 + 15], (int)((uintptr_t)area % 64));
    change(uc, fp);
    load(0);
}

int main(void)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    sigaction(SIGUSR1, &action, NULL);
    for (experiment = 0; experiment < (int)(sizeof names / sizeof *names); experiment++) {
        int status;
        printf("%s\n", names[experiment]);
        fflush(stdout);
        if (fork() == 0) {
            load(7);
            kill(getpid(), SIGUSR1);
            show();
            _exit(0);
        }
        wait(&status);
        printf("  status %x\n", status);
    }
    return 0;
}
