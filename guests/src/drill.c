/* Runs each of many IA-32 instructions from many states, and tells digests of the states after it.
 *
 * The same program runs on the real CPU and in a virtual machine, and tries instructions by the million: states are made
 * here, from variants that come in on standard input, by a generator that is seeded anew for each state. So the answer for
 * a state depends on nothing but its number. tests/hardware/drill.py has the layout of what comes in and goes out.
 *
 *   CODE  0x00400000  32 bytes for each instruction, which ends with a jump back
 *   DATA  0x00500000  one page, rw-; the page after it is read-only, the one after that unmapped
 *   STACK 0x00600000  one page, rw-
 *   GDT   entry 12 (selector 0x63): base DATA, limit 4 GiB
 *
 * A fault is an answer, too: its handler sends the program back with all registers as they were. Code must come back: what
 * goes elsewhere, or loads segments that are not put back (DS, ES, SS, CS), must not come in.
 */
#include "guest.h"

#define PAGE 4096u
#define CODE 0x00400000u
#define DATA 0x00500000u
#define STACK 0x00600000u
#define SLOT 32u
#define SLOTS 4096u
#define VARIANTS 32u
#define MOST_CONTENTS 512u
#define STACK_BELOW 64u /* bytes below and above the stack pointer that are looked at */
#define STACK_ABOVE 64u

enum { USES_X87 = 1, USES_VECTOR = 2, USES_AVX = 4 };

struct order {
    u32 base, count; /* instructions are numbered from `base` on */
    u32 seed, first, end, chunk; /* a digest for each `chunk` states from `first` on; 0: the states themselves */
};

struct state {
    u32 gpr[8]; /* eax ecx edx ebx esp ebp esi edi */
    u32 eflags, mxcsr;
    u32 signal, vector, error_code, cr2, eip; /* eip from the instruction's own on; all 0 without a fault */
    u32 x87[27];
    u32 ymm[8][8];
};

struct variant {
    u32 gpr[8], eflags, mxcsr, x87[27], ymm[8][8];
};

struct drill {
    u32 free_gpr, free_ymm, uses; /* registers that may hold anything; what is loaded and looked at */
    u32 window, window_size;      /* the memory operand */
    u16 fs, gs;
    struct variant variants[VARIANTS];
};

static struct drill now;
static u32 contents[VARIANTS * MOST_CONTENTS / 4];
static u8 first_data[PAGE];
static u32 x; /* the generator's state */
static u32 digest[2], completed;
static u8 alternate_stack[8 * PAGE];

/* What the code below reads and writes. */
struct state before, after;
u32 host_esp, target, uses;
u16 fs, gs;
u32 scratch[16];

void run(void);
extern char back[], leave_signal[];

__asm__(".globl run\nrun:\n\tpushal\n\tmovl %esp, host_esp\n\t"
        "testl $1, uses\n\tjz 1f\n\tfrstor before + 60\n1:\ttestl $2, uses\n\tjz 3f\n\tldmxcsr before + 36\n\t"
        "testl $4, uses\n\tjz 2f\n\t"
        "vmovups before + 168, %ymm0\n\tvmovups before + 200, %ymm1\n\tvmovups before + 232, %ymm2\n\t"
        "vmovups before + 264, %ymm3\n\tvmovups before + 296, %ymm4\n\tvmovups before + 328, %ymm5\n\t"
        "vmovups before + 360, %ymm6\n\tvmovups before + 392, %ymm7\n\tjmp 3f\n2:\t"
        "movups before + 168, %xmm0\n\tmovups before + 200, %xmm1\n\tmovups before + 232, %xmm2\n\t"
        "movups before + 264, %xmm3\n\tmovups before + 296, %xmm4\n\tmovups before + 328, %xmm5\n\t"
        "movups before + 360, %xmm6\n\tmovups before + 392, %xmm7\n3:\t"
        "movw fs, %fs\n\tmovw gs, %gs\n\t"
        "movl before + 4, %ecx\n\tmovl before + 8, %edx\n\tmovl before + 12, %ebx\n\tmovl before + 20, %ebp\n\t"
        "movl before + 24, %esi\n\tmovl before + 28, %edi\n\tpushl before + 32\n\tpopfl\n\t"
        "movl before, %eax\n\tmovl before + 16, %esp\n\tjmp *target\n"
        ".globl back\nback:\tmovl %esp, after + 16\n\tmovl $scratch + 64, %esp\n\tpushfl\n\tpopl after + 32\n\tpushl $2\n\tpopfl\n\t"
        "movl %eax, after\n\tmovl %ecx, after + 4\n\tmovl %edx, after + 8\n\tmovl %ebx, after + 12\n\t"
        "movl %ebp, after + 20\n\tmovl %esi, after + 24\n\tmovl %edi, after + 28\n\t"
        "testl $1, uses\n\tjz 1f\n\tfnsave after + 60\n1:\ttestl $2, uses\n\tjz 3f\n\tstmxcsr after + 36\n\tldmxcsr usual_mxcsr\n\t"
        "testl $4, uses\n\tjz 2f\n\t"
        "vmovups %ymm0, after + 168\n\tvmovups %ymm1, after + 200\n\tvmovups %ymm2, after + 232\n\t"
        "vmovups %ymm3, after + 264\n\tvmovups %ymm4, after + 296\n\tvmovups %ymm5, after + 328\n\t"
        "vmovups %ymm6, after + 360\n\tvmovups %ymm7, after + 392\n\tjmp 3f\n2:\t"
        "movups %xmm0, after + 168\n\tmovups %xmm1, after + 200\n\tmovups %xmm2, after + 232\n\t"
        "movups %xmm3, after + 264\n\tmovups %xmm4, after + 296\n\tmovups %xmm5, after + 328\n\t"
        "movups %xmm6, after + 360\n\tmovups %xmm7, after + 392\n3:\t"
        "movl host_esp, %esp\n\tpopal\n\tret\n"
        ".globl leave_signal\nleave_signal:\n\tmovl $173, %eax\n\tint $0x80\n"
        ".section .rodata\nusual_mxcsr:\t.long 0x1f80\n.text\n");

_Static_assert(__builtin_offsetof(struct state, x87) == 60, "run() knows where x87 is");
_Static_assert(__builtin_offsetof(struct state, ymm) == 168, "run() knows where ymm is");

struct context {
    u32 flags, link, ss_sp, ss_flags, ss_size;
    u32 gs, fs, es, ds;
    u32 edi, esi, ebp, esp, ebx, edx, ecx, eax;
    u32 vector, error_code, eip, cs, eflags, esp_at_signal, ss;
    void *fp;
    u32 oldmask, cr2;
};

struct sigaction {
    void *handler;
    u32 flags;
    void *restorer;
    u32 mask[2];
};

static i32 syscall6(i32 number, u32 a, u32 b, u32 c, u32 d, u32 e, u32 f) {
    u32 block[2] = {(u32)number, f};
    i32 result;
    __asm__ volatile("pushl %%ebp\n\tmovl 4(%%eax), %%ebp\n\tmovl (%%eax), %%eax\n\tint $0x80\n\tpopl %%ebp"
                     : "=a"(result)
                     : "a"(block), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e)
                     : "memory");
    return result;
}

static void die(u32 status) {
    for (;;) syscall3(SYS_exit, status, 0, 0);
}

/* The kernel passes all three on the stack. */
static void on_signal(u32 signal, void *info, struct context *c) {
    (void)info;
    if (c->eip - CODE >= SLOT * SLOTS) die(10); /* a fault of this program's own */
    after.signal = signal;
    after.vector = c->vector;
    after.error_code = c->error_code;
    after.cr2 = c->vector == 14 ? c->cr2 : 0;
    after.eip = c->eip - target;
    c->eip = (u32)back;
}

static void read_all(void *to, u32 n) {
    u8 *at = to;
    while (n) {
        i32 got = syscall3(SYS_read, 0, (u32)at, n);
        if (got <= 0) die(4);
        at += got, n -= (u32)got;
    }
}

static void write_out(const void *from, u32 n) {
    const u8 *at = from;
    static u8 output[16 * PAGE];
    static u32 used;
    while (n || (!from && used)) {
        if (used == sizeof output || !from) {
            for (u32 done = 0; done < used;) {
                i32 wrote = syscall3(SYS_write, 1, (u32)output + done, used - done);
                if (wrote <= 0) die(3);
                done += (u32)wrote;
            }
            used = 0;
        }
        for (; n && used < sizeof output; n--) output[used++] = *at++;
    }
}

static u32 next(void) {
    x ^= x << 13, x ^= x >> 17, x ^= x << 5;
    return x;
}

static void seed(u32 with, u32 instruction, u32 number) {
    u32 h = with ^ instruction * 0x9e3779b1u ^ number * 0x85ebca6bu;
    h ^= h >> 16, h *= 0x7feb352du, h ^= h >> 15, h *= 0x846ca68bu, h ^= h >> 16;
    x = h ? h : 1;
}

static const struct variant *any_variant(void) {
    return &now.variants[next() >> 8 & (VARIANTS - 1)];
}

static void copy_words(u32 *to, const u32 *from, u32 n) {
    for (u32 i = 0; i < n; i++) to[i] = from[i];
}

static void make_x87(void) {
    const struct variant *whole = any_variant();
    copy_words(before.x87, whole->x87, 27);
    u32 r = next();
    before.x87[0] = (before.x87[0] & ~0xc00u) | (r & 0xc00u);
    for (u32 i = 0; i < 8; i++)
        if (r >> (16 + i) & 1) memcpy((u8 *)before.x87 + 28 + 10 * i, (const u8 *)any_variant()->x87 + 28 + 10 * i, 10);
    if (!(r & 3)) ((u8 *)before.x87)[28 + 10 * (r >> 2 & 1) + (r >> 3 & 7)] ^= (u8)(r >> 24);
}

static void make_vectors(void) {
    const struct variant *whole = any_variant();
    u32 r = next();
    before.mxcsr = (whole->mxcsr & ~0x6000u) | (r & 0x6000u);
    for (u32 i = 0; i < 8; i++) {
        const struct variant *from = r >> i & 1 && now.free_ymm >> i & 1 ? any_variant() : whole;
        copy_words(before.ymm[i], (now.free_ymm >> i & 1 ? from : now.variants)->ymm[i], 8);
    }
    u32 lane = r >> 8 & 63;
    if (r >> 29 == 0 && now.free_ymm >> (lane >> 3) & 1) before.ymm[lane >> 3][lane & 7] ^= next() >> (r >> 14 & 31);
}

/* Registers and the memory operand before the instruction, for one number. */
static void make(void) {
    for (u32 i = 0; i < 8; i++) {
        u32 value = any_variant()->gpr[i];
        if (!(next() & 7)) value = next();
        before.gpr[i] = now.free_gpr >> i & 1 ? value : now.variants[0].gpr[i];
    }
    before.eflags = any_variant()->eflags;
    if (now.uses & USES_X87) make_x87();
    if (now.uses & USES_VECTOR) make_vectors();
    u32 words = now.window_size / 4;
    copy_words((u32 *)now.window, contents + words * (next() & (VARIANTS - 1)), words);
}

static void take(const u32 *words, u32 n) {
    u32 a = digest[0], b = digest[1];
    for (u32 i = 0; i < n; i++) {
        a = (a << 5 | a >> 27) ^ words[i];
        a *= 0x9e3779b1u;
        b = (b + a) ^ (b >> 7);
    }
    digest[0] = a, digest[1] = b;
}

static u32 slot(u32 instruction) {
    return CODE + SLOT * (instruction & (SLOTS - 1));
}

static const u32 *stack_window(void) {
    u32 from = (before.gpr[4] - STACK_BELOW) & ~3u;
    return (const u32 *)(from - STACK < PAGE - STACK_BELOW - STACK_ABOVE ? from : STACK);
}

static void tell(const struct state *s) {
    write_out(s, sizeof *s);
    write_out((void *)now.window, now.window_size);
    write_out(stack_window(), STACK_BELOW + STACK_ABOVE);
}

static void take_all(void) {
    take((const u32 *)&after, 15);
    if (now.uses & USES_X87) take(after.x87, 27);
    if (now.uses & USES_VECTOR) take(after.ymm[0], 64);
    take((const u32 *)now.window, now.window_size / 4);
    take(stack_window(), (STACK_BELOW + STACK_ABOVE) / 4);
}

static void drill(const struct order *order, u32 instruction) {
    uses = now.uses, fs = now.fs, gs = now.gs;
    target = slot(instruction);
    memcpy((void *)DATA, first_data, PAGE);
    memcpy((void *)STACK, first_data, PAGE);
    digest[0] = digest[1] = completed = 0;
    for (u32 number = 0; number < order->end; number++) {
        seed(order->seed, instruction, number);
        make();
        u32 wanted = number >= order->first, telling = wanted && !order->chunk;
        if (telling) tell(&before);
        if (!(now.uses & USES_VECTOR)) after.mxcsr = before.mxcsr = 0;
        after.signal = after.vector = after.error_code = after.cr2 = after.eip = 0;
        run();
        after.eflags &= ~0x10000u;
        if (telling) tell(&after);
        if (!wanted || telling) continue;
        take_all();
        completed += !after.signal;
        if ((number + 1 - order->first) % order->chunk && number + 1 < order->end) continue;
        write_out(digest, sizeof digest);
        digest[0] = digest[1] = 0;
    }
    take((const u32 *)DATA, PAGE / 4);
    take((const u32 *)STACK, PAGE / 4);
    if (!order->chunk) return;
    write_out(digest, sizeof digest);
    write_out(&completed, sizeof completed);
}

/* Each instruction comes in as its length and fifteen bytes. */
static void load_code(const struct order *order) {
    u8 code[16];
    if (order->count > SLOTS) die(6);
    for (u32 i = 0; i < order->count; i++) {
        u8 *to = (u8 *)slot(order->base + i);
        read_all(code, sizeof code);
        if (code[0] > 15) die(6);
        memcpy(to, code + 1, code[0]);
        to += code[0];
        *to = 0xe9;
        u32 relative = (u32)back - (u32)(to + 5);
        memcpy(to + 1, &relative, 4);
    }
    if (syscall3(125, CODE, SLOT * SLOTS, 5)) die(8);
}

static void map(u32 address, u32 length) {
    if ((u32)syscall6(192, address, length, 3, 0x32, (u32)-1, 0) != address) die(8);
}

static void prepare(void) {
    static const u8 signals[] = {4, 5, 7, 8, 11};
    u32 stack[3] = {(u32)alternate_stack, 0, sizeof alternate_stack};
    struct sigaction action = {on_signal, 0x4 | 0x04000000 | 0x08000000 | 0x40000000, leave_signal, {0, 0}};
    u32 whole[4] = {12, DATA, 0xfffff, 0x51}; /* 32-bit data, writable, limit in pages, usable */
    map(CODE, SLOT * SLOTS);
    map(DATA, 2 * PAGE);
    map(STACK, PAGE);
    x = 0x2545f491u;
    for (u32 i = 0; i < PAGE; i++) first_data[i] = (u8)(next() >> 24);
    memcpy((void *)(DATA + PAGE), first_data, PAGE);
    if (syscall3(125, DATA + PAGE, PAGE, 1)) die(8);
    if (syscall3(243, (u32)whole, 0, 0)) die(9);
    if (syscall3(186, (u32)stack, 0, 0)) die(11);
    for (u32 i = 0; i < sizeof signals; i++)
        if (syscall6(174, signals[i], (u32)&action, 0, 8, 0, 0)) die(11);
}

int guest_main(int argc, char **argv, char **envp) {
    struct order order;
    (void)argc, (void)argv, (void)envp;
    read_all(&order, sizeof order);
    prepare();
    load_code(&order);
    for (u32 i = 0; i < order.count; i++) {
        read_all(&now, sizeof now);
        if (now.window_size > MOST_CONTENTS || now.window_size & 3) die(6);
        if (now.window_size && (now.window < DATA || now.window + now.window_size > DATA + PAGE)) die(6);
        read_all(contents, VARIANTS * now.window_size);
        drill(&order, order.base + i);
    }
    write_out(NULL, 0);
    return 0;
}
