/* Runs one IA-32 instruction from a given state on the real CPU and reports the state after it.
 *
 * Records come in on standard input, answers go out on standard output; their layout is in tests/hardware/wire.py. There is
 * no process per case: the handler of the signal that ended one case edits its own signal frame into the state of the next
 * one and returns into it. So every register, ESP, the flags and the x87 registers are exact, and a fault is just an answer.
 *
 * What a case sees (all else is unmapped but this program, kept small and far away):
 *   CODE  0x00400000  one page, r-x, filled with INT3 around the case's bytes
 *   DATA  0x00500000  one page, rw-; the page after it is read-only, the one after that unmapped
 *   STACK 0x00600000  one page, rw-
 *   GDT   entry 12 (selector 0x63): base DATA, limit 4 GiB; entry 13 (selector 0x6b): base DATA, limit 0x7ff bytes
 *
 * System calls that a case makes are refused by a seccomp filter and end it with SIGSYS.
 */

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

#define PAGE 4096u
#define CODE 0x00400000u
#define DATA 0x00500000u
#define READ_ONLY 0x00501000u
#define STACK 0x00600000u
#define ALIAS 0x6ff00000u /* the code page again, writable */

#define EFLAGS_TF 0x100u
#define EFLAGS_RF 0x10000u
#define EFLAGS_STICKY 0x204000u /* NT and ID: sigreturn keeps them, so they are set just before it */

enum { FLAG_X87 = 1, FLAG_NO_TF = 2 };

struct request {
    u32 size;      /* of the whole record, this field included */
    u32 gpr[8];    /* eax ecx edx ebx esp ebp esi edi */
    u32 eip, eflags;
    u16 ds, es, fs, gs;
    u16 fill;      /* 0..8192: where in the table the contents of DATA and STACK begin */
    u8 flags, code_length, patches, x87[108], reserved;
} __attribute__((packed));

struct answer {
    u32 size;
    u32 gpr[8];
    u32 eip, eflags;
    u16 ds, es, fs, gs, cs, ss;
    u8 signal, reserved;
    u16 changes;
    u32 vector, error_code, cr2;
    u8 x87[108];
} __attribute__((packed));

struct fxsave {
    u16 cwd, swd, twd, fop;
    u32 fip, fcs, fdp, fds, mxcsr, mask;
    u8 st[8][16];
    u8 rest[352];
} __attribute__((packed));

struct fpstate {
    u8 fsave[108]; /* cw sw tag ipoff cssel dataoff datasel, then st(0..7), ten bytes each */
    u16 status, magic;
    struct fxsave fx;
    u32 features[2]; /* of the XSAVE header */
} __attribute__((packed));

struct context {
    u32 flags, link, ss_sp, ss_flags, ss_size;
    u16 gs, gsh, fs, fsh, es, esh, ds, dsh;
    u32 edi, esi, ebp, esp, ebx, edx, ecx, eax;
    u32 vector, error_code, eip;
    u16 cs, csh;
    u32 eflags, esp_at_signal;
    u16 ss, ssh;
    struct fpstate *fp;
    u32 oldmask, cr2;
};

static u8 table[4 * PAGE] __attribute__((aligned(4096)));
static u8 alternate_stack[6 * PAGE] __attribute__((aligned(4096)));
static u8 input[4 * PAGE], output[4 * PAGE + 1];
static u32 input_at, input_end, output_at;
static u8 pristine_fp[108];
static struct request now;
static u32 running;
u32 sticky_flags = 2;

static inline u32 call(u32 number, u32 a, u32 b, u32 c, u32 d, u32 e, u32 f) {
    u32 result;
    u32 block[2] = {number, f};
    __asm__ volatile("pushl %%ebp\n\tmovl 4(%%eax), %%ebp\n\tmovl (%%eax), %%eax\n\tint $0x80\n\tpopl %%ebp"
                     : "=a"(result)
                     : "a"(block), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e)
                     : "memory");
    return result;
}

static void die(int status) {
    for (;;) call(252, (u32)status, 0, 0, 0, 0, 0);
}

static void copy(void *to, const void *from, u32 n) {
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}

static void copy_page(void *to, const void *from) {
    u32 n = PAGE / 4;
    __asm__ volatile("rep movsl" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}

static void flush(void) {
    u32 at = 0;
    while (at < output_at) {
        u32 n = call(4, 1, (u32)output + at, output_at - at, 0, 0, 0);
        if ((int)n <= 0) die(3);
        at += n;
    }
    output_at = 0;
}

static void put(const void *bytes, u32 n) {
    if (output_at + n > 4 * PAGE) flush();
    copy(output + output_at, bytes, n);
    output_at += n;
}

/* Read `n` bytes; 0 at the end of the input (1 otherwise). A record cut short is an error of the driver: exit 4. */
static int get(void *bytes, u32 n) {
    u8 *to = bytes;
    u32 wanted = n;
    while (n) {
        if (input_at == input_end) {
            u32 got;
            if (output_at) flush();
            got = call(3, 0, (u32)input, sizeof input, 0, 0, 0);
            if ((int)got < 0) die(5);
            if (!got) {
                if (n != wanted) die(4);
                return 0;
            }
            input_at = 0;
            input_end = got;
        }
        u32 part = input_end - input_at < n ? input_end - input_at : n;
        copy(to, input + input_at, part);
        input_at += part, to += part, n -= part;
    }
    return 1;
}

static void patch(void) {
    struct { u32 address; u16 length; } __attribute__((packed)) head;
    if (!get(&head, sizeof head)) die(4);
    u32 last = head.address + head.length - 1;
    u32 page = head.address & ~(PAGE - 1);
    if (!head.length || (last & ~(PAGE - 1)) != page || (page != DATA && page != STACK)) die(6);
    if (!get((void *)head.address, head.length)) die(4);
}

/* Edit the signal frame into the state of the next case; leave the program when there is none. */
static void load_next(struct context *c) {
    u8 code[16];
    u32 room;
    if (running) {
        room = CODE + PAGE - now.eip;
        for (u32 i = 0; i < now.code_length && i < room; i++) ((u8 *)ALIAS)[now.eip - CODE + i] = 0xcc;
    }
    if (!get(&now, sizeof now)) {
        flush();
        die(0);
    }
    if (now.code_length > 16 || now.fill > 2 * PAGE || now.eip - CODE >= PAGE) die(6);
    if (now.code_length && !get(code, now.code_length)) die(4);
    room = CODE + PAGE - now.eip;
    copy((u8 *)ALIAS + (now.eip - CODE), code, now.code_length < room ? now.code_length : room);
    copy_page((void *)DATA, table + now.fill);
    copy_page((void *)STACK, table + now.fill + PAGE);
    for (u32 i = 0; i < now.patches; i++) patch();

    c->eax = now.gpr[0], c->ecx = now.gpr[1], c->edx = now.gpr[2], c->ebx = now.gpr[3];
    c->esp = now.gpr[4], c->ebp = now.gpr[5], c->esi = now.gpr[6], c->edi = now.gpr[7];
    c->eip = now.eip;
    c->eflags = (now.eflags & ~(EFLAGS_TF | EFLAGS_STICKY)) | (now.flags & FLAG_NO_TF ? 0 : EFLAGS_TF);
    sticky_flags = 2 | (now.eflags & EFLAGS_STICKY);
    c->ds = now.ds, c->es = now.es, c->fs = now.fs, c->gs = now.gs;
    c->cs = 0x23, c->ss = 0x2b;

    const u8 *x87 = now.flags & FLAG_X87 ? now.x87 : pristine_fp;
    copy(c->fp->fsave, x87, 108);
    c->fp->features[0] |= 3;
    running = 1;
}

static void put_changes(u32 page, const u8 *before, u16 *count, u8 *to, u32 *at) {
    const u8 *after = (const u8 *)page;
    const u32 *words = (const u32 *)page;
    u32 i = 0;
    while (i < PAGE) {
        if (!(i & 3)) {
            u32 k = i;
            while (k < PAGE && words[k >> 2] == *(const u32 *)(before + k)) k += 4;
            i = k;
            if (i >= PAGE) break;
        }
        if (after[i] == before[i]) {
            i++;
            continue;
        }
        u32 start = i;
        while (i < PAGE && after[i] != before[i]) i++;
        struct { u32 address; u16 length; } __attribute__((packed)) head = {page + start, (u16)(i - start)};
        if (*at + sizeof head + head.length > 2 * PAGE) die(7);
        copy(to + *at, &head, sizeof head);
        copy(to + *at + sizeof head, after + start, head.length);
        *at += sizeof head + head.length;
        ++*count;
    }
}

/* What DATA and STACK held before the case, patches included. */
static u8 before[2][PAGE] __attribute__((aligned(16)));
u8 changes[2 * PAGE] __attribute__((aligned(16))); /* the first stack, too */

static void report(const struct context *c, u32 signal) {
    struct answer a;
    u32 used = 0;
    a.gpr[0] = c->eax, a.gpr[1] = c->ecx, a.gpr[2] = c->edx, a.gpr[3] = c->ebx;
    a.gpr[4] = c->esp, a.gpr[5] = c->ebp, a.gpr[6] = c->esi, a.gpr[7] = c->edi;
    a.eip = c->eip;
    a.eflags = c->eflags & ~(EFLAGS_TF | EFLAGS_RF);
    a.ds = c->ds, a.es = c->es, a.fs = c->fs, a.gs = c->gs, a.cs = c->cs, a.ss = c->ss;
    a.signal = (u8)signal, a.reserved = 0;
    a.vector = c->vector, a.error_code = c->error_code, a.cr2 = c->vector == 14 ? c->cr2 : 0;
    if (signal == 31) a.vector = 0x80, a.error_code = 0, a.cr2 = 0; /* the filter refused a system call */
    u32 ran_onto = c->eip - 1;
    if ((now.flags & FLAG_NO_TF) && c->vector == 3 && ran_onto - CODE < PAGE && ran_onto - now.eip >= now.code_length) {
        a.vector = 1; /* the INT3 behind the instruction or at its target: it completed */
        a.eip = ran_onto;
    }
    copy(a.x87, c->fp->fsave, 108);
    *(u32 *)(a.x87 + 16) = (u32)(c->fp->fx.fop & 0x7ff) << 16; /* FOP; FCS and FDS are not known to a 64-bit kernel */
    *(u32 *)(a.x87 + 24) = 0;
    u16 count = 0;
    put_changes(DATA, before[0], &count, changes, &used);
    put_changes(STACK, before[1], &count, changes, &used);
    a.changes = count;
    a.size = sizeof a + used;
    put(&a, sizeof a);
    if (used) put(changes, used);
}

void on_signal(u32 signal, void *info, struct context *c);
void on_signal(u32 signal, void *info, struct context *c) {
    (void)info;
    if (running)
        report(c, signal);
    else
        copy(pristine_fp, c->fp->fsave, 108);
    load_next(c);
    copy_page(before[0], (void *)DATA);
    copy_page(before[1], (void *)STACK);
}

/* INT 0x80 reads the interrupt controller first, which costs 14 us in a virtual machine; SYSENTER is Intel's only. */
u32 use_sysenter;

static void choose_entry(void) {
    u32 a = 0, b, c, d;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d));
    use_sysenter = b == 0x756e6547 && d == 0x49656e69 && c == 0x6c65746e;
}

/* The kernel passes eax = signal, edx = siginfo, ecx = ucontext, and the same on the stack. A case may have left AC or NT. */
__asm__(".globl enter\nenter:\n\tpushl $0x202\n\tpopfl\n\tcld\n\tjmp on_signal\n"
        ".globl leave_signal\nleave_signal:\n\tpushl sticky_flags\n\tpopfl\n\tmovl $173, %eax\n\tcmpl $0, use_sysenter\n\tjne 1f\n\t"
        "int $0x80\n1:\tmovl %esp, %ebp\n\tsysenter\n");
extern char enter[], leave_signal[], __executable_start[], etext[];

struct sigaction {
    void *handler;
    u32 flags;
    void *restorer;
    u32 mask[2];
};

static void map(u32 address, u32 length, u32 protection, u32 flags, u32 fd) {
    if (call(192, address, length, protection, flags | 0x10, fd, 0) != address) die(8);
}

static void make_memory(void) {
    u32 x = 0x2545f491u;
    u32 fd = call(356, (u32) "code", 0, 0, 0, 0, 0);
    if ((int)fd < 0 || (int)call(93, fd, PAGE, 0, 0, 0, 0) < 0) die(8);
    map(CODE, PAGE, 5, 1, fd);
    map(ALIAS, PAGE, 3, 1, fd);
    for (u32 i = 0; i < PAGE; i++) ((u8 *)ALIAS)[i] = 0xcc;
    map(DATA, 2 * PAGE, 3, 0x22, (u32)-1);
    map(STACK, PAGE, 3, 0x22, (u32)-1);
    for (u32 i = 0; i < sizeof table; i++) {
        x ^= x << 13, x ^= x >> 17, x ^= x << 5;
        table[i] = (u8)(x >> 24);
    }
    copy_page((void *)READ_ONLY, table);
    if (call(125, READ_ONLY, PAGE, 1, 0, 0, 0) || call(125, (u32)table, sizeof table, 1, 0, 0, 0)) die(8);
}

static void make_segments(void) {
    u32 whole[4] = {12, DATA, 0xfffff, 0x51};  /* 32-bit data, writable, limit in pages, usable */
    u32 small[4] = {13, DATA, 0x7ff, 0x41};
    if (call(243, (u32)whole, 0, 0, 0, 0, 0) || call(243, (u32)small, 0, 0, 0, 0, 0)) die(9);
}

static void forbid_system_calls(void) {
    struct { u16 code; u8 jt, jf; u32 k; } filter[] = {
        {0x20, 0, 0, 0},                       /* A = number */
        {0x15, 4, 0, 173},                     /* rt_sigreturn: allow (SYSENTER hides where it came from) */
        {0x20, 0, 0, 8},                       /* A = instruction_pointer, low half */
        {0x35, 0, 1, (u32)__executable_start}, /* below this program: trap */
        {0x35, 0, 1, (u32)etext},              /* inside it: allow */
        {0x06, 0, 0, 0x00030000},              /* SECCOMP_RET_TRAP */
        {0x06, 0, 0, 0x7fff0000},              /* SECCOMP_RET_ALLOW */
    };
    struct { u16 length; void *filter; } program = {7, filter};
    if (call(172, 38, 1, 0, 0, 0, 0) || call(172, 22, 2, (u32)&program, 0, 0, 0)) die(10);
}

static void catch_signals(void) {
    static const u8 signals[] = {4, 5, 7, 8, 11, 14, 31};
    u32 stack[3] = {(u32)alternate_stack, 0, sizeof alternate_stack};
    struct sigaction action = {enter, 0x4 | 0x04000000 | 0x08000000, leave_signal, {~0u, ~0u}};
    if (call(186, (u32)stack, 0, 0, 0, 0, 0)) die(11);
    for (u32 i = 0; i < sizeof signals; i++)
        if (call(174, signals[i], (u32)&action, 0, 8, 0, 0)) die(11);
}

/* A wild address of a case should find nothing: the first stack (which would also grow) and the vDSO go. */
static void unmap_the_rest(void) {
    call(91, 0x10000, ALIAS - 0x10000, 0, 0, 0, 0);
    call(91, 0x70100000, 0xffffe000 - 0x70100000, 0, 0, 0, 0);
}

__asm__(".globl _start\n_start:\n\tmovl $changes + 8192, %esp\n\tcall begin\n");

void begin(void);
void begin(void) {
    choose_entry();
    unmap_the_rest();
    make_memory();
    make_segments();
    catch_signals();
    forbid_system_calls();
    __asm__ volatile("int3");
    die(12);
}
