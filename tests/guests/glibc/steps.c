/* EFLAGS.TF: after which instructions there is a trap, where, and what the handler is told. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <ucontext.h>

#define LISTED 64

struct trap {
    int signal, code, offset, flags, number, error;
};
static struct trap traps[LISTED];
static volatile int count, skip;
static char *base;
unsigned steps_seen, steps_stack[4];
char steps_from[16] = "abcdefgh", steps_to[16];

static void handler(int number, siginfo_t *info, void *context) {
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    if (count < LISTED) {
        struct trap t = {number, info->si_code, (char *)regs[REG_EIP] - base, regs[REG_EFL] & 0x44dd5,
                         regs[REG_TRAPNO], regs[REG_ERR]};
        traps[count++] = t;
    }
    if (number != SIGTRAP) regs[REG_EIP] += skip;
}

#define SEQUENCE(name, body)                                                                                    \
    void name(void);                                                                                            \
    __asm__(".text\n" #name ":\n pusha\n xorl %eax, %eax\n pushf\n orl $0x100, (%esp)\n popf\n" body            \
            "\n pushf\n andl $~0x100, (%esp)\n popf\n popa\n ret\n")

SEQUENCE(plain, "nop\n nop\n xorl %eax, %eax\n incl %eax\n");
SEQUENCE(pushed, "pushf\n popl steps_seen\n");
SEQUENCE(pushed16, "pushfw\n popw steps_seen\n");
SEQUENCE(popped, "pushf\n popf\n nop\n");
SEQUENCE(repeated, "movl $steps_from, %esi\n movl $steps_to, %edi\n movl $3, %ecx\n rep movsb\n nop\n rep movsb\n nop\n");
SEQUENCE(compared, "movl $steps_from, %esi\n movl $steps_from, %edi\n movl $3, %ecx\n repe cmpsb\n nop\n"
                   "movl $2, %ecx\n xorl %eax, %eax\n repne scasb\n nop\n");
SEQUENCE(stored, "movl $steps_to, %edi\n movl $4, %ecx\n rep stosl\n movl $steps_from, %esi\n lodsb\n nop\n");
SEQUENCE(load_ss, "movl %ss, %eax\n movl %eax, %ss\n incl %ecx\n nop\n");
SEQUENCE(pop_ss, "pushl %ss\n popl %ss\n incl %ecx\n nop\n");
SEQUENCE(lss, "movl %esp, steps_stack\n movw %ss, steps_stack+4\n lss steps_stack, %esp\n nop\n nop\n");
SEQUENCE(load_ss_syscall, "movl %ss, %ecx\n movl $20, %eax\n movl %ecx, %ss\n int $0x80\n nop\n nop\n");
SEQUENCE(load_ss_int3, "movl %ss, %eax\n movl %eax, %ss\n int3\n nop\n nop\n");
SEQUENCE(load_ss_ud2, "movl %ss, %eax\n movl %eax, %ss\n ud2\n nop\n nop\n");
SEQUENCE(load_ds, "movl %ds, %eax\n movl %eax, %ds\n incl %ecx\n nop\n");
SEQUENCE(load_gs, "movl %gs, %eax\n movl %eax, %gs\n incl %ecx\n nop\n");
SEQUENCE(breakpoint, "nop\n int3\n nop\n");
SEQUENCE(long_breakpoint, "nop\n .byte 0xcd, 3\n nop\n");
SEQUENCE(debug_trap, "nop\n .byte 0xf1\n nop\n");
SEQUENCE(no_overflow, "xorl %eax, %eax\n into\n nop\n");
SEQUENCE(overflow, "movl $0x7fffffff, %eax\n incl %eax\n into\n nop\n");
SEQUENCE(call, "call 1f\n jmp 2f\n1: ret\n nop\n2: movl $2, %ecx\n3: loop 3b\n jecxz 4f\n nop\n4: nop\n");
SEQUENCE(system_call, "movl $20, %eax\n int $0x80\n nop\n nop\n");
SEQUENCE(questions, "xorl %eax, %eax\n cpuid\n rdtsc\n nop\n");
SEQUENCE(undefined, "nop\n ud2\n nop\n");
SEQUENCE(division, "xorl %ecx, %ecx\n div %ecx\n nop\n");
SEQUENCE(wild, "movl 0, %eax\n nop\n");
SEQUENCE(privileged, "cli\n nop\n");
SEQUENCE(closed_gate, ".byte 0xcd, 0x21\n nop\n");
SEQUENCE(bad_selector, "movl $0x10, %eax\n movl %eax, %ds\n nop\n");
SEQUENCE(returned, "pushf\n pushl %cs\n pushl $1f\n iret\n1: nop\n nop\n");
SEQUENCE(cleared, "pushf\n andl $~0x100, (%esp)\n popf\n nop\n pushf\n orl $0x100, (%esp)\n popf\n nop\n nop\n");
SEQUENCE(returned_clear, "pushf\n andl $~0x100, (%esp)\n pushl %cs\n pushl $1f\n iret\n1: nop\n nop\n"
                         "pushf\n orl $0x100, (%esp)\n pushl %cs\n pushl $2f\n iret\n2: nop\n nop\n");
SEQUENCE(misaligned, "pushf\n orl $0x40000, (%esp)\n popf\n movl steps_from+1, %eax\n movl steps_from, %eax\n"
                     "pushf\n andl $~0x40000, (%esp)\n popf\n nop\n");

static void run(const char *name, void (*sequence)(void), int length) {
    count = 0, skip = length, base = (char *)sequence;
    sequence();
    printf("%s: seen %x\n", name, steps_seen);
    steps_seen = 0;
    for (int i = 0; i < count; i++)
        printf("  signal %d code %d at +%d flags %x trap %d error %x\n", traps[i].signal, traps[i].code,
               traps[i].offset, traps[i].flags, traps[i].number, traps[i].error);
}

#define RUN(name, length) run(#name, name, length)

int main(void) {
    struct sigaction action = {0};
    int signals[] = {SIGTRAP, SIGSEGV, SIGILL, SIGFPE, SIGBUS};
    action.sa_sigaction = handler, action.sa_flags = SA_SIGINFO;
    for (unsigned i = 0; i < sizeof signals / sizeof *signals; i++) sigaction(signals[i], &action, NULL);
    RUN(plain, 0), RUN(pushed, 0), RUN(pushed16, 0), RUN(popped, 0);
    RUN(repeated, 0), RUN(compared, 0), RUN(stored, 0);
    RUN(load_ss, 0), RUN(pop_ss, 0), RUN(lss, 0), RUN(load_ds, 0), RUN(load_gs, 0);
    RUN(load_ss_syscall, 0), RUN(load_ss_int3, 0), RUN(load_ss_ud2, 2);
    RUN(breakpoint, 0), RUN(long_breakpoint, 0), RUN(debug_trap, 0), RUN(no_overflow, 0), RUN(overflow, 0);
    RUN(call, 0), RUN(system_call, 0), RUN(questions, 0);
    RUN(undefined, 2), RUN(division, 2), RUN(wild, 5), RUN(privileged, 1), RUN(closed_gate, 2), RUN(bad_selector, 2);
    RUN(returned, 0), RUN(cleared, 0), RUN(returned_clear, 0), RUN(misaligned, 5);
    return 0;
}
