/* The whole runtime of the guests: system calls through INT 0x80, text, numbers, memory. No libc, one translation unit.
 *
 * A guest defines `int guest_main(int argc, char **argv, char **envp)`; what it returns is its exit status. Output is
 * buffered and flushed when the guest ends, reads, or the buffer is full.
 */
#ifndef GUEST_H
#define GUEST_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int i32;
typedef u32 size_t;
#define NULL ((void *)0)
#define UNUSED __attribute__((unused))

enum { SYS_exit = 1, SYS_read = 3, SYS_write = 4, SYS_open = 5, SYS_close = 6, SYS_brk = 45, SYS_uname = 122 };

static inline i32 syscall3(i32 number, u32 a, u32 b, u32 c) {
    i32 result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
    return result;
}

/* --- memory and strings --- */

void *memcpy(void *to, const void *from, size_t n) {
    void *result = to;
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
    return result;
}

void *memset(void *to, int byte, size_t n) {
    void *result = to;
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(byte) : "memory");
    return result;
}

UNUSED static size_t length(const char *s) {
    size_t n = 0;
    while (s[n]) n++;
    return n;
}

UNUSED static int compare(const char *a, const char *b) {
    while (*a && *a == *b) a++, b++;
    return (u8)*a - (u8)*b;
}

/* Grow the heap; memory is never given back. NULL when the kernel refuses. */
UNUSED static void *allocate(size_t n) {
    static u32 at, end;
    n = (n + 15) & ~15u;
    if (!end) at = end = (u32)syscall3(SYS_brk, 0, 0, 0);
    if (n > end - at) {
        u32 wanted = (at + n + 0xffff) & ~0xffffu;
        if (wanted < at || (u32)syscall3(SYS_brk, wanted, 0, 0) != wanted) return NULL;
        end = wanted;
    }
    at += n;
    return (void *)(at - n);
}

/* --- output --- */

static char out_buffer[4096];
static u32 out_used;

static void write_all(int fd, const char *bytes, size_t n) {
    while (n) {
        i32 done = syscall3(SYS_write, (u32)fd, (u32)bytes, n);
        if (done <= 0) syscall3(SYS_exit, 99, 0, 0);
        bytes += done, n -= (u32)done;
    }
}

static void flush(void) {
    write_all(1, out_buffer, out_used);
    out_used = 0;
}

UNUSED static void put_char(char c) {
    if (out_used == sizeof out_buffer) flush();
    out_buffer[out_used++] = c;
}

UNUSED static void put_bytes(const char *bytes, size_t n) {
    while (n--) put_char(*bytes++);
}

UNUSED static void put(const char *s) {
    while (*s) put_char(*s++);
}

UNUSED static void put_unsigned(u32 n) {
    char digits[10];
    int at = 10;
    do digits[--at] = (char)('0' + n % 10);
    while (n /= 10);
    put_bytes(digits + at, (size_t)(10 - at));
}

UNUSED static void put_int(i32 n) {
    if (n < 0) put_char('-');
    put_unsigned(n < 0 ? -(u32)n : (u32)n);
}

UNUSED static void put_hex(u32 n, int digits) {
    while (digits--) put_char("0123456789abcdef"[n >> (4 * digits) & 15]);
}

UNUSED static __attribute__((noreturn)) void fail(const char *message) {
    flush();
    write_all(2, message, length(message));
    for (;;) syscall3(SYS_exit, 1, 0, 0);
}

/* --- input --- */

static char in_buffer[4096];
static u32 in_at, in_end;

/* The next byte of standard input, -1 at its end. */
UNUSED static int get_char(void) {
    if (in_at == in_end) {
        flush();
        i32 n = syscall3(SYS_read, 0, (u32)in_buffer, sizeof in_buffer);
        if (n <= 0) return -1;
        in_at = 0, in_end = (u32)n;
    }
    return (u8)in_buffer[in_at++];
}

/* Read a line without its end into `line`; -1 when there is none. What is beyond `room` is dropped. */
UNUSED static i32 get_line(char *line, u32 room) {
    u32 n = 0;
    int c;
    while ((c = get_char()) >= 0 && c != '\n')
        if (n < room - 1) line[n++] = (char)c;
    line[n] = 0;
    return c < 0 && !n ? -1 : (i32)n;
}

UNUSED static i32 to_int(const char *s) {
    u32 n = 0;
    int negative = *s == '-';
    for (s += negative; *s >= '0' && *s <= '9'; s++) n = n * 10 + (u32)(*s - '0');
    return (i32)(negative ? -n : n);
}

/* The first argument as a number, `otherwise` when there is none: the scale of a benchmark. */
UNUSED static u32 scale(int argc, char **argv, u32 otherwise) {
    return argc > 1 ? (u32)to_int(argv[1]) : otherwise;
}

/* --- start --- */

int guest_main(int argc, char **argv, char **envp);

void start(u32 *stack) __attribute__((noreturn, used));
void start(u32 *stack) {
    int argc = (int)stack[0];
    int status = guest_main(argc, (char **)(stack + 1), (char **)(stack + 2 + argc));
    flush();
    for (;;) syscall3(SYS_exit, (u32)status, 0, 0);
}

__asm__(".globl _start\n_start:\n\txorl %ebp, %ebp\n\tmovl %esp, %eax\n\tandl $-16, %esp\n\tpushl %eax\n\tcall start\n");

#endif
