/* Advice on memory: what each kind of mapping takes, and what it does. */
#include "calls.h"

static void all(const char *what, char *at, size_t size)
{
    static const int advice[] = {-1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 13, 14, 15, 16, 17, 20, 21, 22, 23, 24, 26, 27, 99, 104};
    printf("%s:", what);
    for (unsigned i = 0; i < sizeof advice / sizeof *advice; i++)
        printf(" %d %s", advice[i], madvise(at, size, advice[i]) ? strerrorname_np(errno) : "fine");
    puts("");
}

static char *map(size_t size, int prot, int flags, int fd)
{
    return mmap(NULL, size, prot, flags | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0);
}

static int touched(char *at, size_t size)
{
    static unsigned char seen[1 << 14];
    int n = 0;
    mincore(at, size, seen);
    for (unsigned i = 0; i < size >> 12; i++)
        n += seen[i] & 1;
    return n;
}

int main(void)
{
    int fd = memfd_create("advice", 0), exe = open("/proc/self/exe", O_RDONLY);
    ftruncate(fd, 1 << 16);
    all("private", map(1 << 14, 3, MAP_PRIVATE, -1), 1 << 14);
    all("read only", map(1 << 14, 1, MAP_PRIVATE, -1), 1 << 14);
    all("nothing allowed", map(1 << 14, 0, MAP_PRIVATE, -1), 1 << 14);
    all("shared", map(1 << 14, 3, MAP_SHARED, -1), 1 << 14);
    all("file", map(1 << 14, 3, MAP_SHARED, fd), 1 << 14);
    all("private file", map(1 << 14, 3, MAP_PRIVATE, fd), 1 << 14);
    all("file read only", map(1 << 14, 1, MAP_SHARED, fd), 1 << 14);
    all("program", map(1 << 14, 1, MAP_SHARED, exe), 1 << 14);
    all("behind the end", mmap(NULL, 1 << 14, 3, MAP_SHARED, fd, 1 << 16), 1 << 14);
    char *p = map(1 << 15, 3, MAP_PRIVATE, -1);
    all("nothing", p + 1, 1 << 14), all("empty", p, 0);
    munmap(p + 8192, 4096);
    all("on to the end", p, -4096);
    all("a hole", p, 1 << 14), all("empty in a hole", p + 8192, 0), all("begins in a hole", p + 8192, 8192);

    p = map(8 << 20, 3, MAP_PRIVATE, -1);
    R(madvise(p, 8 << 20, MADV_NOHUGEPAGE));
    R(touched(p, 8 << 20));
    R(madvise(p + 4096, 5 << 20, MADV_POPULATE_WRITE)), R(touched(p + 4096, 5 << 20));
    R(p[4096] | p[5 << 20]);
    memset(p, 7, 1 << 20);
    R(madvise(p, 8 << 20, MADV_POPULATE_READ)), R(p[5000]), R(touched(p, 8 << 20));
    R(madvise(p, 2 << 20, MADV_COLD)), R(madvise(p, 2 << 20, MADV_MERGEABLE)), R(p[5000]);
    R(madvise(p, 2 << 20, 24)), R(p[5000]);
    mprotect(p + (1 << 20), 4096, PROT_READ);
    memset(p, 0, 4096);
    R(madvise(p, 4 << 20, MADV_DONTNEED));
    R(madvise(p, 4 << 20, MADV_POPULATE_WRITE)), R(touched(p, 4 << 20));
    munmap(p + (1 << 19), 4096);
    R(madvise(p, 4 << 20, MADV_DONTNEED));
    R(madvise(p, 1 << 20, MADV_POPULATE_READ));
    char *half = mmap(NULL, 1 << 17, 3, MAP_SHARED, fd, 0);
    R(madvise(half, 1 << 17, MADV_POPULATE_READ)), R(madvise(half, 1 << 16, MADV_POPULATE_WRITE));
    return 0;
}
