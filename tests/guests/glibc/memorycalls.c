/* Memory calls, one line each: what was called, whether it worked, the error. Run natively and as a guest. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096
#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

static void show(const char *what, long result)
{
    printf("%s: %s\n", what, result == -1 ? strerrorname_np(errno) : "ok");
    fflush(stdout);
}

#define R(call) (errno = 0, show(#call, (long)(call)))
#define N(value) (printf("%s = %ld\n", #value, (long)(value)), fflush(stdout))

static void mapping(void)
{
    R(mmap(0, 0, RW, ANON, -1, 0));
    R(mmap(0, PAGE, RW, MAP_ANONYMOUS, -1, 0));
    R(mmap(0, PAGE, RW, MAP_PRIVATE, 77, 0));
    R(mmap((void *)0x20001, PAGE, RW, ANON | MAP_FIXED, -1, 0));
    R(mmap((void *)0xffffe000, PAGE, RW, ANON | MAP_FIXED, -1, 0));
    R(mmap(0, 0xfffff000, PROT_NONE, ANON | MAP_NORESERVE, -1, 0));
    R(mmap(0, PAGE, RW, ANON | MAP_GROWSDOWN, -1, 0));
    R(mmap(0, PAGE, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_GROWSDOWN, -1, 0));
    char *a = mmap(0, 8 * PAGE, RW, ANON, -1, 0);
    memset(a, 1, 8 * PAGE);
    N(mmap(a, PAGE, RW, ANON, -1, 0) == a);
    R(mmap(a, PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0));
    R(munmap(a + 2 * PAGE, PAGE));
    R(munmap(a + 2 * PAGE, PAGE));
    R(munmap(a + 1, PAGE));
    R(munmap(a, 0));
    R(mprotect(a, 8 * PAGE, PROT_READ));
    R(mprotect(a, 0, 7));
    R(mprotect(a, PAGE, 0x100));
    R(mprotect(a + 1, PAGE, PROT_READ));
    R(mprotect(a, 2 * PAGE, RW));
    a[0] = 5;
    R(madvise(a, 8 * PAGE, MADV_DONTNEED));
    N(a[0] + a[PAGE]);
    R(madvise(a, PAGE, 1234));
    R(madvise(a + 1, PAGE, MADV_DONTNEED));
    R(madvise(a, PAGE, MADV_WILLNEED));
    R(madvise(a, PAGE, MADV_FREE));
    R(msync(a, PAGE, MS_SYNC));
    R(msync(a, PAGE, MS_SYNC | MS_ASYNC));
    R(msync(a + 2 * PAGE, PAGE, MS_SYNC));
    R(mlock(a, PAGE));
    R(mlock(a + 2 * PAGE, PAGE));
    R(munlock(a, PAGE));
    unsigned char there[8];
    a[0] = 1;
    R(mincore(a, 2 * PAGE, there));
    N(there[0] & 1);
    R(mincore(a, 8 * PAGE, there));
    R(mincore(a + 1, PAGE, there));
}

static void remapping(void)
{
    char *m = mmap(0, 4 * PAGE, RW, ANON, -1, 0);
    for (int i = 0; i < 4; i++)
        m[i * PAGE] = i + 1;
    N(mremap(m, 4 * PAGE, 2 * PAGE, 0) == m);
    char *n = mremap(m, 2 * PAGE, 64 * PAGE, MREMAP_MAYMOVE);
    N(n[0] + 10 * n[PAGE] + 100 * n[2 * PAGE]);
    n[63 * PAGE] = 9;
    R(mremap(n, 64 * PAGE, 0xb0000000, 0));
    R(mremap(n, 64 * PAGE, 0, MREMAP_MAYMOVE));
    R(mremap(n, PAGE, PAGE, 8));
    R(mremap(n + 1, PAGE, PAGE, MREMAP_MAYMOVE));
    R(mremap((void *)PAGE, PAGE, 2 * PAGE, MREMAP_MAYMOVE));
    R(mremap(n, PAGE, PAGE, MREMAP_FIXED, (void *)0x30000000));
    char *f = mremap(n, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)0x30000000);
    N(f == (void *)0x30000000);
    N(f[0] + 10 * f[PAGE]);
    R(madvise(n, PAGE, MADV_DONTNEED));
    R(mremap(f, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, f + PAGE));
    R(mremap(f, 0, PAGE, MREMAP_MAYMOVE));
}

static void sharing(void)
{
    char *s = mmap(0, 2 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    s[0] = 1;
    if (!fork()) {
        s[0] = 42;
        s[PAGE] = 43;
        _exit(0);
    }
    wait(0);
    N(s[0] * 100 + s[PAGE]);
    char *again = mremap(s, 0, PAGE, MREMAP_MAYMOVE);
    N(again[0]);
    again[1] = 7;
    N(s[1]);
    char *z = mmap(0, PAGE, RW, MAP_PRIVATE, open("/dev/zero", O_RDWR), 0);
    N(z[5]);
    z[5] = 1;
}

static void files(void)
{
    char name[] = "/tmp/mmXXXXXX", text[20] = {0};
    int fd = mkstemp(name), status;
    write(fd, "hello world", 11);
    char *p = mmap(0, 2 * PAGE, RW, MAP_PRIVATE, fd, 0);
    printf("%.11s %d\n", p, p[11]);
    p[0] = 'J';
    pread(fd, text, 11, 0);
    puts(text);
    char *q = mmap(0, PAGE, RW, MAP_SHARED, fd, 0);
    q[0] = 'S';
    pread(fd, text, 11, 0);
    puts(text);
    pwrite(fd, "X", 1, 1);
    printf("%.5s\n", q);
    q[11] = '!';
    N(lseek(fd, 0, SEEK_END));
    R(msync(q, PAGE, MS_SYNC));
    if (!fork()) {
        q[2] = 'F';
        _exit(0);
    }
    wait(0);
    printf("%.5s\n", q);
    int in = open(name, O_RDONLY), out = open(name, O_WRONLY), pair[2];
    R(mmap(0, PAGE, RW, MAP_SHARED, in, 0));
    R(mmap(0, PAGE, RW, MAP_PRIVATE, in, 0));
    char *shown = mmap(0, PAGE, PROT_READ, MAP_SHARED, in, 0);
    R(mprotect(shown, PAGE, RW));
    R(mmap(0, PAGE, PROT_READ, MAP_PRIVATE, out, 0));
    R(mmap(0, PAGE, PROT_READ, MAP_PRIVATE, open("/", O_RDONLY), 0));
    pipe(pair);
    R(mmap(0, PAGE, PROT_READ, MAP_PRIVATE, pair[0], 0));
    R(mmap(0, PAGE, PROT_READ, MAP_SHARED, pair[0], 0));
    fflush(stdout);
    if (!fork()) {
        *(volatile char *)(p + PAGE);
        _exit(0);
    }
    wait(&status);
    printf("past the end: %x\n", status);
    unlink(name);
}

static void the_break(void)
{
    char *b = sbrk(0);
    R(sbrk(10 * PAGE));
    memset(b, 3, 10 * PAGE);
    brk(b);
    N(sbrk(0) == b);
    sbrk(PAGE);
    N(b[0]);
    N(syscall(SYS_brk, 4096) == (long)sbrk(0));
    N(syscall(SYS_brk, 0xf8000000) == (long)sbrk(0));
    struct {
        unsigned address, size, prot, flags, fd, offset;
    } old = {0, PAGE, RW, ANON, -1, 0};
    R(syscall(SYS_mmap, &old));
    old.offset = 5;
    R(syscall(SYS_mmap, &old));
    R(syscall(SYS_mmap, 4));
    char stack[200000];
    memset(stack, 1, sizeof stack);
    N(stack[5]);
}

static pthread_barrier_t all_there;

static void *rests(void *arg)
{
    (void)arg;
    pthread_barrier_wait(&all_there);
    return 0;
}

static void more_than_there_is(void)
{
    enum { SIZE = 64 << 20, COUNT = 30, THREADS = 60 };
    char *parts[COUNT];
    int mapped = 0, started = 0, kept = 0, status;
    for (int i = 0; i < COUNT; i++) {
        parts[i] = mmap(0, SIZE, i % 3 ? RW : PROT_READ, i & 1 ? ANON : ANON | MAP_NORESERVE, -1, 0);
        mapped += parts[i] != MAP_FAILED && !mprotect(parts[i], SIZE, RW);
        parts[i][0] = parts[i][SIZE - 1] = i + 1;
    }
    N(mapped);
    if (!fork()) _exit(parts[COUNT - 1][SIZE - 1]);
    wait(&status);
    N(WEXITSTATUS(status));
    N(mremap(parts[0], SIZE, 3 * SIZE, MREMAP_MAYMOVE) != MAP_FAILED);
    for (int i = 1; i < COUNT; i++) {
        kept += parts[i][0] == i + 1 && parts[i][SIZE - 1] == i + 1;
        munmap(parts[i], SIZE);
    }
    N(kept);
    pthread_t threads[THREADS];
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 8 << 20);
    pthread_barrier_init(&all_there, 0, THREADS + 1);
    for (int i = 0; i < THREADS; i++) started += !pthread_create(&threads[i], &attr, rests, 0);
    N(started);
    if (started < THREADS) exit(1);
    pthread_barrier_wait(&all_there);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], 0);
}

int main(void)
{
    mapping();
    remapping();
    sharing();
    files();
    the_break();
    more_than_there_is();
    return 0;
}
