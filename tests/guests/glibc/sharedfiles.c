/* Files that are mapped MAP_SHARED and written: mappings, read(2), write(2), ftruncate(2) and fallocate(2) see one content. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static sigjmp_buf back;
static void caught(int number) { siglongjmp(back, number); }

/* What reading or writing one byte gives: its value, or the signal. */
static int peek(volatile unsigned char *p)
{
    int number = sigsetjmp(back, 1);
    return number ? -number : *p;
}
static int poke(volatile unsigned char *p, int value)
{
    int number = sigsetjmp(back, 1);
    if (number)
        return -number;
    *p = value;
    return 0;
}
static unsigned sum(int fd)
{
    static unsigned char data[1 << 16];
    unsigned total = 0, n;
    off_t at = 0;
    while ((int)(n = pread(fd, data, sizeof data, at)) > 0) {
        for (unsigned i = 0; i < n; i++)
            total = total * 31 + data[i];
        at += n;
    }
    return total;
}
static void show(const char *what, int fd, unsigned char *p, int pages)
{
    struct stat s;
    fstat(fd, &s);
    printf("%s: size %lld sum %08x bytes", what, (long long)s.st_size, sum(fd));
    for (int i = 0; i < pages; i++)
        printf(" %d,%d", peek(p + 4096 * i), peek(p + 4096 * i + 4095));
    printf("\n");
}
static unsigned random_state;
static unsigned next(unsigned most)
{
    random_state = random_state * 1103515245 + 12345;
    return (random_state >> 8) % most;
}

int main(int argc, char **argv)
{
    unsigned char buffer[8192], *p, *q, *r;
    int fd, status;
    random_state = argc > 1 ? atoi(argv[1]) : 12345;
    signal(SIGBUS, caught);
    signal(SIGSEGV, caught);
    for (int i = 0; i < 8192; i++)
        buffer[i] = i * 7;
    fd = open("sharedfiles.tmp", O_RDWR | O_CREAT | O_TRUNC, 0600);
    write(fd, buffer, 6000);
    p = mmap(0, 8 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    show("mapped", fd, p, 4);
    printf("store %d %d %d\n", poke(p + 10, 200), poke(p + 5999, 201), poke(p + 6001, 202));
    pread(fd, buffer, 20, 0);
    printf("read %d\n", buffer[10]);
    pwrite(fd, "abc", 3, 11);
    printf("seen %d %d %d\n", p[11], p[12], p[13]);
    show("stored", fd, p, 3);
    printf("grow %d\n", ftruncate(fd, 4 * 4096));
    printf("tail %d\n", peek(p + 6001));
    show("grown", fd, p, 5);
    poke(p + 3 * 4096, 9);
    q = mmap(0, 2 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 2 * 4096);
    printf("second %d\n", q[4096]);
    q[4096] = 33, q[1] = 34;
    printf("first %d %d\n", p[3 * 4096], p[2 * 4096 + 1]);
    r = mmap(0, 4 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    printf("private %d\n", r[3 * 4096]);
    r[3 * 4096] = 77;
    printf("own %d %d\n", r[3 * 4096], p[3 * 4096]);
    show("shared", fd, p, 4);
    printf("shrink %d\n", ftruncate(fd, 5000));
    show("shrunk", fd, p, 4);
    printf("store behind %d %d\n", poke(p + 2 * 4096, 1), poke(p + 4096 + 1000, 55));
    printf("grow again %d\n", ftruncate(fd, 4 * 4096));
    show("again", fd, p, 5);
    memset(p, 5, 4 * 4096);
    printf("punch %d\n", fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 2 * 4096));
    show("punched", fd, p, 4);
    p[4096] = 61, p[2 * 4096 + 4095] = 62;
    show("stored there", fd, q, 2);
    show("stored there", fd, p, 4);
    printf("zero %d\n", fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 100, 9000));
    show("zeroed", fd, p, 4);
    fflush(stdout);
    if (!fork()) {
        p[3] = 91, q[5] = 92;
        pwrite(fd, "xy", 2, 20);
        _exit(0);
    }
    wait(&status);
    printf("of the child %d %d %d %d\n", p[3], p[2 * 4096 + 5], p[20], status);
    close(open("sharedfiles.tmp", O_RDWR | O_TRUNC));
    show("emptied", fd, p, 2);
    pwrite(fd, "zzzz", 4, 4096);
    show("written", fd, p, 3);
    printf("unlink %d msync %d\n", unlink("sharedfiles.tmp"), msync(p, 8 * 4096, MS_SYNC));
    p[4100] = 44;
    show("unlinked", fd, p, 2);

    /* Far beyond what there was when it was mapped. */
    ftruncate(fd, 3 << 20);
    r = mmap(0, 3 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    for (int i = 0; i < 3 << 20; i += 4093)
        r[i] = i >> 7;
    show("large", fd, r + (2 << 20), 3);
    printf("smaller %d\n", ftruncate(fd, (1 << 20) + 5));
    show("smaller", fd, r + (1 << 20), 2);
    munmap(r, 3 << 20);

    /* Code in a file that is mapped twice: to be written, and to be executed. */
    int memory = memfd_create("code", 0);
    ftruncate(memory, 4096);
    unsigned char *w = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", memory);
    int only = open(path, O_RDONLY);
    unsigned char *x = mmap(0, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, only, 0);
    for (int i = 0; i < 5; i++) {
        memcpy(w, "\xb8\x00\x00\x00\x00\xc3", 6); /* MOV EAX, number; RET */
        w[1] = 10 * i;
        printf("code %d\n", ((int (*)(void))x)());
    }

    /* By chance: stores through two mappings, calls between them. */
    int other = memfd_create("other", 0);
    ftruncate(other, 16 * 4096);
    p = mmap(0, 16 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, other, 0);
    q = mmap(0, 8 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, other, 4 * 4096);
    for (int i = 0; i < 2000; i++) {
        struct stat s;
        unsigned at = next(16 * 4096), what = next(16), end;
        fstat(other, &s);
        end = s.st_size + 4095 & -4096; /* what is behind the size in its page may be seen when it grows, or not */
        if (what < 6)
            at < s.st_size || at >= end ? poke(p + at, i) : 0;
        else if (what < 9)
            at / 2 + 4 * 4096 < s.st_size || at / 2 + 4 * 4096 >= end ? poke(q + at / 2, i) : 0;
        else if (what < 11)
            pwrite(other, buffer, next(5000), at);
        else if (what == 11)
            ftruncate(other, next(16 * 4096));
        else if (what == 12)
            ftruncate(other, 16 * 4096);
        else if (what == 13)
            fallocate(other, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, next(9000) + 1);
        else if (what == 14)
            mprotect(p, 16 * 4096, i & 16 ? PROT_READ : PROT_READ | PROT_WRITE);
        else
            madvise(p, 16 * 4096, MADV_DONTNEED);
        fstat(other, &s);
        if (i % 20 == 0)
            printf("%d: %lld %08x %d %d\n", i, (long long)s.st_size, sum(other), peek(p + at), peek(q + at / 2));
    }
    return 0;
}
