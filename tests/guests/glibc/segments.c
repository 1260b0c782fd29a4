/* Segments that set_thread_area(2) makes: limits, directions, rights; 16-bit offsets at the end of 64 KiB. */
#define _GNU_SOURCE
#include <asm/ldt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define MIDDLE 0xa000
#define SIZE (2 * MIDDLE)

struct registers {
    unsigned eax, ebx, ecx, edx, esi, edi, flags;
};
struct registers segments_in, segments_out;
unsigned segments_resume, segments_selector, segments_float, segments_esp;
static volatile unsigned faulted, fault_error, fault_address, fault_code;
static unsigned char *buffer, *before;

static void handler(int number, siginfo_t *info, void *context) {
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    (void)number;
    __asm__ volatile("movl %0, %%fs" : : "r"(0));
    faulted = regs[REG_TRAPNO] + 1, fault_error = regs[REG_ERR], fault_code = info->si_code;
    fault_address = regs[REG_TRAPNO] == 14 ? (unsigned)info->si_addr - (unsigned)buffer : 0;
    regs[REG_EIP] = segments_resume;
}

/* FS and ES are the segment, the other registers those of segments_in. */
#define TRIAL(name, body)                                                                                       \
    void name(void);                                                                                            \
    __asm__(".text\n" #name ":\n pusha\n pushl %es\n pushl %fs\n movl %esp, segments_esp\n"                     \
            " movl $1f, segments_resume\n movl segments_selector, %eax\n movl %eax, %fs\n movl %eax, %es\n"     \
            " fninit\n fld1\n fldpi\n"                                                                          \
            " movl segments_in, %eax\n movl segments_in+4, %ebx\n movl segments_in+8, %ecx\n"                   \
            " movl segments_in+12, %edx\n movl segments_in+16, %esi\n movl segments_in+20, %edi\n"              \
            " testl %esp, %esp\n" body "\n1: movl segments_esp, %esp\n popl %fs\n popl %es\n"                   \
            " movl %eax, segments_out\n movl %ebx, segments_out+4\n movl %ecx, segments_out+8\n"                \
            " movl %edx, segments_out+12\n movl %esi, segments_out+16\n movl %edi, segments_out+20\n"           \
            " pushf\n popl segments_out+24\n cld\n popa\n ret\n")

#define TRIALS(V)                                                                                               \
    V(load8, "movb %fs:(%ebx), %al") V(load32, "movl %fs:(%ebx), %eax") V(store16, "movw %ax, %fs:(%ebx)")      \
    V(store32, "movl %eax, %fs:(%ebx)") V(change, "addl %eax, %fs:(%ebx)")                                      \
    V(test_bit, "btl %ecx, %fs:(%ebx)") V(set_bit, "btsl %ecx, %fs:(%ebx)")                                     \
    V(exchange8, "cmpxchg8b %fs:(%ebx)") V(far_load, "lgs %fs:(%ebx), %ecx") V(bounds, "boundl %eax, %fs:(%ebx)")\
    V(load80, "fldt %fs:(%ebx)\n fstps segments_float") V(store80, "fstpt %fs:(%ebx)")                          \
    V(environment, "fninit\n fnstenv %fs:(%ebx)\n fldenv %fs:(%ebx)")                                           \
    V(save, "fninit\n fnsave %fs:(%ebx)\n frstor %fs:(%ebx)")                                                   \
    V(pop_memory, "pushl %eax\n popl %fs:(%ebx)") V(push_memory, "pushl %fs:(%ebx)\n popl %eax")                \
    V(far_jump, "ljmp *%fs:(%ebx)") V(table, "xlat %fs:(%ebx)") V(prefetch, "clflush %fs:(%ebx)")               \
    V(scan, "movl %ebx, %edi\n movl $3, %ecx\n repne scasl") V(fill, "movl %ebx, %edi\n movl $3, %ecx\n rep stosl")\
    V(fill_down, "std\n movl %ebx, %edi\n movl $5, %ecx\n rep stosw")                                           \
    V(copy, "movl %ebx, %esi\n leal 9(%ebx), %edi\n movl $5, %ecx\n rep movsw %fs:(%esi), %es:(%edi)")
#define TRIALS16(V)                                                                                             \
    V(load8_16, "movb %fs:(%bx), %al") V(load32_16, "movl %fs:(%bx), %eax") V(load16_16, "movw %fs:(%bx), %ax") \
    V(sum_16, "movl %fs:3(%bx,%si), %eax") V(store32_16, "movl %eax, %fs:(%bx)")                                \
    V(change_16, "addl %eax, %fs:(%bx)") V(test_bit_16, "btl %ecx, %fs:(%bx)")                                  \
    V(set_bit_16, "btsl %ecx, %fs:(%bx)") V(set_bit16_16, "btsw %cx, %fs:(%bx)")                                \
    V(exchange8_16, "cmpxchg8b %fs:(%bx)") V(far_load_16, "lgs %fs:(%bx), %ecx")                                \
    V(far_load16_16, "lgsw %fs:(%bx), %cx") V(bounds_16, "boundl %eax, %fs:(%bx)")                              \
    V(bounds16_16, "boundw %ax, %fs:(%bx)") V(environment_16, "fninit\n fnstenv %fs:(%bx)\n fldenv %fs:(%bx)")  \
    V(environment16_16, "fninit\n fnstenvs %fs:(%bx)\n fldenvs %fs:(%bx)")                                      \
    V(pop_memory_16, "pushl %eax\n popl %fs:(%bx)") V(far_jump_16, "ljmp *%fs:(%bx)")                           \
    V(far_jump16_16, "ljmpw *%fs:(%bx)") V(table_16, "xlat %fs:(%bx)")                                          \
    V(address_16, "leal 5(%bx,%si), %eax") V(move_16, "movb %fs:0xffff, %al\n addr16 movl %fs:0xfffe, %eax")    \
    V(fill_16, "movw %bx, %di\n movw $3, %cx\n addr16 rep stosl")                                               \
    V(scan_16, "movw %bx, %di\n movw $3, %cx\n addr16 repne scasl")                                             \
    V(fill_down_16, "std\n movw $2, %di\n movw $3, %cx\n addr16 rep stosl")                                     \
    V(copy_16, "movw %bx, %si\n movw $9, %di\n movw $5, %cx\n addr16 rep movsw %fs:(%si), %es:(%di)")           \
    V(loop_16, "movw $1, %cx\n addr16 loop 3f\n nop\n 3: addr16 jecxz 4f\n nop\n 4:")

#define DEFINE(name, body) TRIAL(name, body);
#define ENTRY(name, body) {#name, name},
TRIALS(DEFINE)
TRIALS16(DEFINE)
typedef struct {
    const char *name;
    void (*run)(void);
} trial;
static const trial trials[] = {TRIALS(ENTRY)}, trials16[] = {TRIALS16(ENTRY)};

/* What the trials can reach, from the middle on: 32-bit offsets, and 16-bit ones, whose base is 32 KiB lower. */
static const struct {
    int start, size;
} windows[] = {{-0x20, 0xa0}, {0x7e0, 0xa0}, {0xfe0, 0xa0}, {0x1fe0, 0xa0}, {-0x8020, 0xa0}, {0x7fc0, 0xa0}};

static void show(const char *name, unsigned offset) {
    printf("%s %x:", name, offset);
    if (faulted) printf(" fault %d error %x at %x code %d", (int)faulted - 1, fault_error, fault_address, fault_code);
    struct registers *r = &segments_out;
    printf(" %x %x %x %x %x %x zf %d cf %d;", r->eax, r->ebx, r->ecx, r->edx, r->esi, r->edi, r->flags >> 6 & 1,
           r->flags & 1);
    unsigned changed = 0, sum = 0;
    for (unsigned w = 0; w < sizeof windows / sizeof *windows; w++)
        for (int i = windows[w].start + MIDDLE, end = i + windows[w].size; i < end; i += 4)
            if (*(unsigned *)(buffer + i) != *(unsigned *)(before + i))
                changed++, sum = sum * 31 + *(unsigned *)(buffer + i) + i;
    printf(" %x %u %x", segments_float, changed, sum);
    putchar('\n');
}

static void try(const trial *t, unsigned offset) {
    for (unsigned w = 0; w < sizeof windows / sizeof *windows; w++)
        memcpy(buffer + MIDDLE + windows[w].start, before + MIDDLE + windows[w].start, windows[w].size);
    struct registers in = {0x11223344, offset, 40, 0x55667788, 0x4, 0x30, 0};
    segments_in = in, faulted = segments_float = 0;
    t->run();
    show(t->name, offset);
}

static int set_segment(unsigned base, unsigned limit, int contents, int read_only, int pages) {
    struct user_desc d = {.entry_number = 14, .base_addr = base, .limit = limit, .seg_32bit = 1};
    d.contents = contents, d.read_exec_only = read_only, d.limit_in_pages = pages, d.useable = 1;
    return syscall(SYS_set_thread_area, &d);
}

static void ask(const char *name) {
    unsigned rights = 0, limit = 0;
    unsigned char r, l, readable, writable;
    unsigned selector = segments_selector;
    __asm__("lar %2, %0\n setz %1" : "+r"(rights), "=q"(r) : "r"(selector) : "cc");
    __asm__("lsl %2, %0\n setz %1" : "+r"(limit), "=q"(l) : "r"(selector) : "cc");
    __asm__("verr %w1\n setz %0" : "=q"(readable) : "r"(selector) : "cc");
    __asm__("verw %w1\n setz %0" : "=q"(writable) : "r"(selector) : "cc");
    printf("%s: rights %d %x limit %d %x readable %d writable %d\n", name, r, rights, l, limit, readable, writable);
}

TRIAL(load_ds, "movl %ds, %ecx\n movl segments_selector, %eax\n movl %eax, %ds\n movl %ds, %eax\n movl %ecx, %ds");
TRIAL(load_ss, "movl %ss, %ecx\n movl segments_selector, %eax\n movl %eax, %ss\n movl %ss, %eax\n movl %ecx, %ss");

int main(void) {
    static const struct {
        const char *name;
        unsigned limit;
        int contents, read_only, pages;
    } kinds[] = {{"whole", 0xfffff, 0, 0, 1}, {"small", 0x7ff, 0, 0, 0}, {"read-only", 0x7ff, 0, 1, 0},
                 {"down", 0x7ff, 1, 0, 0}, {"down pages", 0, 1, 0, 1},
                 {"one page", 0, 0, 0, 1}};
    static const unsigned offsets[] = {0,      0x7f6,  0x7fa,      0x7fd,      0x800,
                                       0xfff, 0x1ffe, 0xfffffff4, 0xfffffffc, 0xffffffff};
    struct sigaction action = {0};
    int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE};
    action.sa_sigaction = handler, action.sa_flags = SA_SIGINFO;
    for (unsigned i = 0; i < sizeof signals / sizeof *signals; i++) sigaction(signals[i], &action, NULL);
    buffer = mmap((void *)0x20000000, 2 * SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    before = buffer + SIZE;
    for (int i = 0; i < SIZE; i++) buffer[i] = before[i] = (i * 7 + (i >> 8) * 13) | 0x40;
    segments_selector = 14 << 3 | 3;
    for (unsigned k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        printf("set %d\n", set_segment((unsigned)buffer + MIDDLE, kinds[k].limit, kinds[k].contents,
                                       kinds[k].read_only, kinds[k].pages));
        for (int rpl = 0; rpl < 4; rpl++) {
            segments_selector = 14 << 3 | rpl;
            ask(kinds[k].name);
        }
        trial loads[] = {{"load ds", load_ds}, {"load ss", load_ss}};
        if (kinds[k].limit == 0xfffff && !kinds[k].contents) {
            set_segment(0, kinds[k].limit, kinds[k].contents, kinds[k].read_only, kinds[k].pages);
            try(&loads[0], 0);
            try(&loads[1], 0);
            set_segment((unsigned)buffer + MIDDLE, kinds[k].limit, kinds[k].contents, kinds[k].read_only,
                        kinds[k].pages);
        }
        for (unsigned t = 0; t < sizeof trials / sizeof *trials; t++)
            for (unsigned o = 0; o < sizeof offsets / sizeof *offsets; o++) try(&trials[t], offsets[o]);
    }
    set_segment((unsigned)buffer + MIDDLE - 0x8000, 0xfffff, 0, 0, 1);
    for (unsigned t = 0; t < sizeof trials16 / sizeof *trials16; t++)
        for (unsigned o = 0xffe0; o < 0x10001; o += o < 0xfff8 ? 5 : 1) try(&trials16[t], o);
    return 0;
}
