/* Clocks: by the C library (which asks the vdso) and by system calls; both agree, and none goes back. */
#include "calls.h"
#include <elf.h>
#include <sys/auxv.h>

#define SECOND 1000000000ll

typedef int clock_function(int, void *);

static unsigned base;
static jmp_buf again;

/* A function of the vdso by its name: .hash's count of symbols, .dynsym and .dynstr by the dynamic section. */
static void *find(const char *name)
{
    Elf32_Ehdr *elf = (void *)base;
    Elf32_Phdr *headers = (void *)(base + elf->e_phoff);
    Elf32_Sym *symbols = NULL;
    const char *names = NULL;
    unsigned *hash = NULL;
    for (int n = 0; n < elf->e_phnum; n++)
        if (headers[n].p_type == PT_DYNAMIC)
            for (Elf32_Dyn *tag = (void *)(base + headers[n].p_vaddr); tag->d_tag; tag++)
                if (tag->d_tag == DT_SYMTAB)
                    symbols = (void *)(base + tag->d_un.d_ptr);
                else if (tag->d_tag == DT_STRTAB)
                    names = (void *)(base + tag->d_un.d_ptr);
                else if (tag->d_tag == DT_HASH)
                    hash = (void *)(base + tag->d_un.d_ptr);
    for (unsigned n = 0; hash && n < hash[1]; n++)
        if (symbols[n].st_value && !strcmp(names + symbols[n].st_name, name))
            return (void *)(base + symbols[n].st_value);
    return NULL;
}

static long long ns(struct timespec t) { return t.tv_sec * SECOND + t.tv_nsec; }

static const int clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE,
                             CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME, CLOCK_TAI};

/* The same clock by library and by call in turns. */
static void in_turns(int clock)
{
    struct timespec now;
    long long last = 0, most = 0;
    int back = 0, forms = 0;
    for (int n = 0; n < 300; n++) {
        long long wide[2];
        int (*wide_function)(int, void *) = find("__vdso_clock_gettime64");
        if (n % 4 == 0)
            forms += clock_gettime(clock, &now);
        else if (n % 4 == 1)
            forms += syscall(SYS_clock_gettime, clock, &now);
        else {
            forms += n % 4 == 2 ? syscall(403, clock, wide) : wide_function(clock, wide);
            now.tv_sec = wide[0], now.tv_nsec = wide[1];
            forms += (wide[1] >> 32) != 0;
        }
        back += ns(now) < last || now.tv_nsec < 0 || now.tv_nsec >= SECOND;
        if (last && ns(now) - last > most)
            most = ns(now) - last;
        last = ns(now);
    }
    printf("clock %d: %d back, %d failed, %s\n", clock, back, forms, most < 5 * SECOND ? "near" : "far");
}

static void apart(int one, int other)
{
    struct timespec first, second;
    clock_gettime(one, &first), syscall(SYS_clock_gettime, other, &second);
    long long by = ns(second) - ns(first);
    printf("clocks %d and %d: %s\n", one, other, by > -SECOND && by < 5 * SECOND ? "near" : "far");
}

static void moves(void)
{
    struct timespec first, now;
    int steps = 0;
    clock_gettime(CLOCK_MONOTONIC, &first);
    for (long long last = ns(first); steps < 50;) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        steps += ns(now) > last, last = ns(now);
    }
    printf("it moves while we look: %d steps\n", steps);
}

static void others(void)
{
    struct timespec res = {9, 9};
    struct timeval now, then;
    struct timezone zone = {5, 5};
    time_t seconds;
    clock_function *getres = find("__vdso_clock_getres"), *gettime = find("__vdso_clock_gettime");
    unsigned cpu = 9, node = 9;
    int (*getcpu_function)(void *, void *, void *) = find("__vdso_getcpu");
    for (unsigned n = 0; n < sizeof clocks / sizeof *clocks; n++)
        if (clocks[n] != CLOCK_REALTIME_COARSE && clocks[n] != CLOCK_MONOTONIC_COARSE) {
            R(clock_getres(clocks[n], &res));
            printf("%ld %ld\n", (long)res.tv_sec, res.tv_nsec);
        }
    R(getres(CLOCK_MONOTONIC, NULL));
    printf("%d %d %d %d\n", getres(77, &res), getres(-1, &res), gettime(77, &res), gettime(12, &res));
    R(getres(CLOCK_PROCESS_CPUTIME_ID, &res));
    R(gettime(CLOCK_PROCESS_CPUTIME_ID, &res));
    R(gettime(CLOCK_THREAD_CPUTIME_ID, &res));
    R(clock_gettime(77, &res));
    R(gettimeofday(&now, &zone));
    printf("%d %d %d\n", zone.tz_minuteswest, zone.tz_dsttime, now.tv_usec < 1000000 && now.tv_usec >= 0);
    R(syscall(SYS_gettimeofday, &then, NULL));
    printf("%d\n", then.tv_sec - now.tv_sec <= 5 && (then.tv_sec > now.tv_sec || then.tv_usec >= now.tv_usec));
    R(((clock_function *)find("__vdso_gettimeofday"))(0, NULL));
    long told = time(&seconds), called = syscall(SYS_time, NULL);
    printf("%d %d %d\n", told == seconds, labs(called - told) <= 5, labs(then.tv_sec - told) <= 5);
    if (getcpu_function) {
        R(getcpu_function(NULL, NULL, NULL));
        R(getcpu_function(&cpu, &node, NULL));
        printf("%d %u\n", cpu < 4096, node);
    }
}

static void caught(int signal) { last = signal, siglongjmp(again, 1); }

/* What the vdso writes to is the program's own affair. */
static void bad_pointers(void)
{
    struct sigaction action = {.sa_handler = caught, .sa_flags = SA_NODEFER};
    sigaction(SIGSEGV, &action, NULL);
    for (volatile int n = 0; n < 3; n++) {
        last = 0;
        if (!sigsetjmp(again, 1))
            if (n == 0)
                ((clock_function *)find("__vdso_clock_gettime"))(CLOCK_MONOTONIC, (void *)16);
            else if (n == 1)
                ((clock_function *)find("__vdso_gettimeofday"))(16, NULL);
            else
                ((clock_function *)find("__vdso_time"))(16, NULL);
        printf("bad pointer %d: signal %d\n", n, last);
    }
    R(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, 16));
    R(syscall(SYS_gettimeofday, 16, NULL));
    R(mprotect((void *)(base - 4096), 4096, PROT_READ | PROT_WRITE)); /* what the vdso reads */
}

int main(void)
{
    setbuf(stdout, NULL);
    base = getauxval(AT_SYSINFO_EHDR);
    static const char *names[] = {"__vdso_clock_gettime64", "__vdso_clock_gettime", "__vdso_clock_getres",
                                  "__vdso_gettimeofday", "__vdso_time", "__kernel_vsyscall", "__kernel_sigreturn"};
    for (unsigned n = 0; n < sizeof names / sizeof *names; n++)
        printf("%s: %s\n", names[n], find(names[n]) ? "there" : "not there");
    for (unsigned n = 0; n < sizeof clocks / sizeof *clocks; n++)
        in_turns(clocks[n]);
    apart(CLOCK_REALTIME, CLOCK_REALTIME_COARSE), apart(CLOCK_REALTIME_COARSE, CLOCK_REALTIME);
    apart(CLOCK_MONOTONIC, CLOCK_MONOTONIC_COARSE), apart(CLOCK_MONOTONIC_COARSE, CLOCK_MONOTONIC);
    moves();
    others();
    bad_pointers();
    pid_t pid = fork();
    if (!pid) {
        in_turns(CLOCK_MONOTONIC), in_turns(CLOCK_REALTIME);
        _exit(0);
    }
    ended(pid);
    return 0;
}
