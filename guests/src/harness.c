/* Runs one IA-32 instruction, or a block of them, from a given state on the real CPU and reports the state after it.
 *
 * Records come in on standard input, answers go out on standard output; their layout is in tests/hardware/wire.py. There is
 * no process per case: the handler of the signal that ended one case edits its own signal frame into the state of the next
 * one and returns into it. So every register, ESP, the flags, the x87 and vector registers are exact, and a fault is just an answer.
 *
 * What a case sees (all else is unmapped but this program, kept small and far away):
 *   CODE  0x00400000  one page, r-x, filled with INT3 around the case's bytes
 *   DATA  0x00500000  one page, rw-; the page after it is read-only, the one after that unmapped
 *   STACK 0x00600000  one page, rw-
 *   AREA  0x00800000  for blocks alone: two pages rwx, filled with INT3 around the block's bytes, then two pages rw-
 *   GDT   entry 12 (selector 0x63): base DATA, limit 4 GiB; entry 13 (selector 0x6b): base DATA, limit 0x7ff bytes
 *
 * System calls that a case makes are refused by a seccomp filter and end it with SIGSYS. A block that has not ended after some
 * 20 to 40 ms of its own time is ended by SIGVTALRM.
 */

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

#define PAGE 4096u
#define CODE 0x00400000u
#define DATA 0x00500000u
#define READ_ONLY 0x00501000u
#define STACK 0x00600000u
#define AREA 0x00800000u
#define CODE_PAGES 2u /* of AREA */
#define AREA_PAGES 4u
#define ALIAS 0x6ff00000u /* the code page again, writable */

#define EFLAGS_TF 0x100u
#define EFLAGS_RF 0x10000u
#define EFLAGS_STICKY 0x204000u /* NT and ID: sigreturn keeps them, so they are set just before it */

enum { FLAG_X87 = 1, FLAG_NO_TF = 2, FLAG_VECTOR = 4, FLAG_BLOCK = 8 };
enum { SIGNAL_SYS = 31, SIGNAL_TIME = 26 };

struct request {
    u32 size;      /* of the whole record, this field included */
    u32 gpr[8];    /* eax ecx edx ebx esp ebp esi edi */
    u32 eip, eflags;
    u16 ds, es, fs, gs;
    u16 fill;      /* 0..8192: where in the table the contents of DATA and STACK begin */
    u8 flags, code_length, patches, x87[108], code_length_high; /* the last is 0 but for blocks */
} __attribute__((packed));

struct answer {
    u32 size;
    u32 gpr[8];
    u32 eip, eflags;
    u16 ds, es, fs, gs, cs, ss;
    u8 signal, flags; /* FLAG_VECTOR: a struct vectors and registers follow */
    u16 changes;
    u32 vector, error_code, cr2;
    u8 x87[108];
} __attribute__((packed));

struct vectors {
    u32 mxcsr;
    u8 registers; /* those that follow, 32 bytes each: in a request, others are the table's; in an answer, others are as they were */
} __attribute__((packed));

struct fxsave {
    u16 cwd, swd, twd, fop;
    u32 fip, fcs, fdp, fds, mxcsr, mask;
    u8 st[8][16];
    u8 xmm[8][16];
    u8 reserved[176];
    u32 magic, extended_size, features[2]; /* what the kernel says of the rest; the features that are saved */
    u8 rest[32];
} __attribute__((packed));

struct fpstate {
    u8 fsave[108]; /* cw sw tag ipoff cssel dataoff datasel, then st(0..7), ten bytes each */
    u16 status, magic;
    struct fxsave fx;
    u32 features[2]; /* of the XSAVE header: components that are not in their initial state */
    u8 header[56];
    u8 ymm_high[8][16];
} __attribute__((packed));

enum { FEATURE_X87 = 1, FEATURE_SSE = 2, FEATURE_AVX = 4, XSTATE_MAGIC = 0x46505853 };

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
static u8 input[4 * PAGE], output[16 * PAGE];
static u32 input_at, input_end, output_at;
static u8 pristine_fp[108];
static struct request now;
static u8 ymm[8][32]; /* before the case */
static u32 running, ticks, area_is_there;
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

static void set(void *to, u8 value, u32 n) {
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(value) : "memory");
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
    if (output_at + n > sizeof output) flush();
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

static int is_area(u32 page) {
    return now.flags & FLAG_BLOCK && page - AREA < AREA_PAGES * PAGE;
}

static void patch(void) {
    struct { u32 address; u16 length; } __attribute__((packed)) head;
    if (!get(&head, sizeof head)) die(4);
    u32 last = head.address + head.length - 1;
    u32 page = head.address & ~(PAGE - 1);
    if (!head.length || (last & ~(PAGE - 1)) != page || (page != DATA && page != STACK && !is_area(page))) die(6);
    if (!get((void *)head.address, head.length)) die(4);
}

static int has_avx(const struct fpstate *fp) {
    return fp->fx.magic == XSTATE_MAGIC && fp->fx.features[0] & FEATURE_AVX;
}

static void load_vectors(struct fpstate *fp) {
    struct vectors head = {0x1f80, 0};
    if (now.flags & FLAG_VECTOR) {
        if (!get(&head, sizeof head)) die(4);
        for (u32 i = 0; i < 8; i++) {
            if (!(head.registers >> i & 1))
                copy(ymm[i], table + now.fill + 32 * i, 32);
            else if (!get(ymm[i], 32))
                die(4);
        }
    } else
        set(ymm, 0, sizeof ymm);
    fp->fx.mxcsr = head.mxcsr;
    for (u32 i = 0; i < 8; i++) copy(fp->fx.xmm[i], ymm[i], 16);
    fp->features[0] = FEATURE_X87 | FEATURE_SSE;
    if (!has_avx(fp)) return;
    fp->features[0] |= FEATURE_AVX;
    for (u32 i = 0; i < 8; i++) copy(fp->ymm_high[i], ymm[i] + 16, 16);
}

/* Append the vector registers that changed to `to`; return how many bytes that are. */
static u32 put_vectors(const struct fpstate *fp, u8 *to) {
    static u8 after[8][32];
    struct vectors head = {fp->fx.mxcsr, 0};
    u32 used = sizeof head, avx = has_avx(fp);
    for (u32 i = 0; i < 8; i++) {
        set(after[i], 0, 16);
        if (fp->features[0] & FEATURE_SSE) copy(after[i], fp->fx.xmm[i], 16);
        if (!avx)
            copy(after[i] + 16, ymm[i] + 16, 16);
        else if (fp->features[0] & FEATURE_AVX)
            copy(after[i] + 16, fp->ymm_high[i], 16);
        else
            set(after[i] + 16, 0, 16);
        u32 differs = 0;
        for (u32 k = 0; k < 8; k++) differs |= ((u32 *)after[i])[k] ^ ((u32 *)ymm[i])[k];
        if (!differs) continue;
        head.registers |= (u8)(1 << i);
        copy(to + used, after[i], 32);
        used += 32;
    }
    copy(to, &head, sizeof head);
    return used;
}

static void map(u32 address, u32 length, u32 protection, u32 flags, u32 fd) {
    if (call(192, address, length, protection, flags | 0x10, fd, 0) != address) die(8);
}

/* What blocks alone need: made at the first one. */
static void make_area(void) {
    static u32 every[4] = {0, 20000, 0, 20000}; /* microseconds of user time */
    if (area_is_there) return;
    map(AREA, CODE_PAGES * PAGE, 7, 0x22, (u32)-1);
    map(AREA + CODE_PAGES * PAGE, (AREA_PAGES - CODE_PAGES) * PAGE, 3, 0x22, (u32)-1);
    if (call(104, 1, (u32)every, 0, 0, 0, 0)) die(8);
    area_is_there = 1;
}

static void load_block(void) {
    u32 length = now.code_length | (u32)now.code_length_high << 8;
    if (now.eip - AREA >= CODE_PAGES * PAGE || length > AREA + CODE_PAGES * PAGE - now.eip) die(6);
    make_area();
    set((void *)AREA, 0xcc, CODE_PAGES * PAGE);
    if (length && !get((void *)now.eip, length)) die(4);
    for (u32 i = CODE_PAGES; i < AREA_PAGES; i++) copy_page((void *)(AREA + i * PAGE), table + now.fill + (i - CODE_PAGES) * PAGE);
}

static void load_instruction(void) {
    u8 code[16];
    u32 room = CODE + PAGE - now.eip;
    if (now.code_length > 16 || now.eip - CODE >= PAGE) die(6);
    if (now.code_length && !get(code, now.code_length)) die(4);
    copy((u8 *)ALIAS + (now.eip - CODE), code, now.code_length < room ? now.code_length : room);
}

/* Take the instruction of the case that ran out of CODE again. */
static void remove_instruction(void) {
    u32 room = CODE + PAGE - now.eip;
    set((u8 *)ALIAS + (now.eip - CODE), 0xcc, now.code_length < room ? now.code_length : room);
}

/* Edit the signal frame into the state of the next case; leave the program when there is none. */
static void load_next(struct context *c) {
    if (running && !(now.flags & FLAG_BLOCK)) remove_instruction();
    if (!get(&now, sizeof now)) {
        flush();
        die(0);
    }
    if (now.fill > 2 * PAGE) die(6);
    if (now.flags & FLAG_BLOCK)
        load_block();
    else
        load_instruction();
    load_vectors(c->fp);
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
    running = 1, ticks = 0;
}

enum { MOST_CHANGES = 8 * PAGE };

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
        if (*at + sizeof head + head.length > MOST_CHANGES) die(7);
        copy(to + *at, &head, sizeof head);
        copy(to + *at + sizeof head, after + start, head.length);
        *at += sizeof head + head.length;
        ++*count;
    }
}

/* What DATA, STACK and AREA held before the case, patches included. */
static u8 before[2 + AREA_PAGES][PAGE] __attribute__((aligned(16)));
u8 changes[MOST_CHANGES] __attribute__((aligned(16))); /* the first stack, too */

static void report(const struct context *c, u32 signal) {
    struct answer a;
    u32 used = 0;
    u8 vectors[sizeof(struct vectors) + 8 * 32];
    u32 vectors_used = now.flags & FLAG_VECTOR ? put_vectors(c->fp, vectors) : 0;
    a.gpr[0] = c->eax, a.gpr[1] = c->ecx, a.gpr[2] = c->edx, a.gpr[3] = c->ebx;
    a.gpr[4] = c->esp, a.gpr[5] = c->ebp, a.gpr[6] = c->esi, a.gpr[7] = c->edi;
    a.eip = c->eip;
    a.eflags = c->eflags & ~(EFLAGS_TF | EFLAGS_RF);
    a.ds = c->ds, a.es = c->es, a.fs = c->fs, a.gs = c->gs, a.cs = c->cs, a.ss = c->ss;
    a.signal = (u8)signal, a.flags = now.flags & FLAG_VECTOR;
    a.vector = c->vector, a.error_code = c->error_code, a.cr2 = c->vector == 14 ? c->cr2 : 0;
    if (signal == SIGNAL_SYS) a.vector = 0x80, a.error_code = 0, a.cr2 = 0; /* the filter refused a system call */
    if (signal == SIGNAL_TIME) a.vector = 0, a.error_code = 0, a.cr2 = 0;
    u32 ran_onto = c->eip - 1;
    if ((now.flags & (FLAG_NO_TF | FLAG_BLOCK)) == FLAG_NO_TF && c->vector == 3 && ran_onto - CODE < PAGE && ran_onto - now.eip >= now.code_length) {
        a.vector = 1; /* the INT3 behind the instruction or at its target: it completed */
        a.eip = ran_onto;
    }
    copy(a.x87, c->fp->fsave, 108);
    *(u32 *)(a.x87 + 16) = (u32)(c->fp->fx.fop & 0x7ff) << 16; /* FOP; FCS and FDS are not known to a 64-bit kernel */
    *(u32 *)(a.x87 + 24) = 0;
    u16 count = 0;
    put_changes(DATA, before[0], &count, changes, &used);
    put_changes(STACK, before[1], &count, changes, &used);
    for (u32 i = 0; i < AREA_PAGES && now.flags & FLAG_BLOCK; i++) put_changes(AREA + i * PAGE, before[2 + i], &count, changes, &used);
    a.changes = count;
    a.size = sizeof a + vectors_used + used;
    put(&a, sizeof a);
    if (vectors_used) put(vectors, vectors_used);
    if (used) put(changes, used);
}

void on_signal(u32 signal, void *info, struct context *c);
void on_signal(u32 signal, void *info, struct context *c) {
    (void)info;
    if (signal == SIGNAL_TIME && running && (!(now.flags & FLAG_BLOCK) || !ticks++)) {
        sticky_flags = 2 | (c->eflags & EFLAGS_STICKY);
        return; /* the case goes on; a block may take the rest of this tick and one more */
    }
    if (running)
        report(c, signal);
    else
        copy(pristine_fp, c->fp->fsave, 108);
    load_next(c);
    copy_page(before[0], (void *)DATA);
    copy_page(before[1], (void *)STACK);
    for (u32 i = 0; i < AREA_PAGES && now.flags & FLAG_BLOCK; i++) copy_page(before[2 + i], (void *)(AREA + i * PAGE));
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
    static const u8 signals[] = {4, 5, 7, 8, 11, 14, SIGNAL_TIME, SIGNAL_SYS};
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

__asm__(".globl _start\n_start:\n\tmovl $changes + 32768, %esp\n\tcall begin\n");

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
