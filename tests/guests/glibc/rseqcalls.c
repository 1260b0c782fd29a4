/* Restartable sequences (rseq(2)): what registration asks for, what the area shows, when a sequence is aborted. */
#include "calls.h"
#include <sys/rseq.h>

#define SIG 0x53053053
static struct rseq area __attribute__((aligned(64)));
static char apart[256] __attribute__((aligned(64)));
static long call(void *at, unsigned size, int flags, unsigned sig) { return syscall(SYS_rseq, at, size, flags, sig); }

static void shown(const char *what)
{
    printf("%s: %d %d, cs %d\n", what, area.cpu_id_start == (unsigned)sched_getcpu(), area.cpu_id == RSEQ_CPU_ID_UNINITIALIZED ? -1 : area.cpu_id == area.cpu_id_start, area.rseq_cs != 0);
}

/* Adds one to `*counter` in a sequence that ends with the store: the number of aborts. `signo` is sent in the midst. */
static int add(volatile unsigned *counter, int signo)
{
    int aborts = -1;
    asm volatile(".pushsection __rseq_table, \"aw\"\n.balign 32\n3: .long 0, 0\n.long 1f, 0, 2f - 1f, 0, 4f, 0\n.popsection\n"
                 "0: incl %0\n movl $3b, %1\n movl $0, 4+%1\n"
                 "1: movl %2, %%edx\n movl %3, %%ecx\n"
                 "5: subl $1, %%ecx\n jns 5b\n"
                 "testl %4, %4\n jz 6f\n cmpl $0, %0\n jne 6f\n" /* no system call has its place here, but for this */
                 "movl %5, %%ebx\n movl %4, %%ecx\n movl $37, %%eax\n int $0x80\n"
                 "6: addl $1, %%edx\n movl %%edx, %2\n"
                 "2: jmp 7f\n"
                 ".long 0x53053053\n4: jmp 0b\n"
                 "7:\n"
                 : "+m"(aborts), "=m"(area.rseq_cs), "+m"(*counter)
                 : "i"(5), "S"(signo), "D"(getpid())
                 : "eax", "ebx", "ecx", "edx", "memory", "cc");
    return aborts;
}

static volatile unsigned total;
static int aborts;
static void *adder(void *argument)
{
    struct rseq *glibc = (void *)((char *)__builtin_thread_pointer() + __rseq_offset);
    int spoiled = 0;
    for (int n = 0; n < 3000; n++) {
        int tries = -1;
        asm volatile(".pushsection __rseq_table, \"aw\"\n.balign 32\n3: .long 0, 0\n.long 1f, 0, 2f - 1f, 0, 4f, 0\n.popsection\n"
                     "0: incl %0\n movl $3b, %1\n movl $0, 4+%1\n"
                     "1: movl %2, %%edx\n movl $300, %%ecx\n"
                     "5: subl $1, %%ecx\n jns 5b\n"
                     "addl $1, %%edx\n movl %%edx, %2\n"
                     "2: jmp 7f\n"
                     ".long 0x53053053\n4: jmp 0b\n"
                     "7:\n"
                     : "+m"(tries), "=m"(glibc->rseq_cs), "+m"(total)
                     :
                     : "ecx", "edx", "memory", "cc");
        spoiled += tries;
    }
    __sync_fetch_and_add(&aborts, spoiled);
    return argument;
}

static void child(const char *what, void (*run)(void))
{
    pid_t pid;
    printf("-- %s\n", what);
    if (!(pid = fork()))
        run(), _exit(0);
    ended(pid);
}

static unsigned long long cs[4] __attribute__((aligned(32)));
static void broken(void)
{
    area.rseq_cs = (unsigned)cs;
    raise(SIGUSR1);
    puts("goes on");
}
static void elsewhere(void) { cs[0] = 0, cs[1] = 4096, cs[2] = 16, cs[3] = 8192, broken(); }
static void version(void) { cs[0] = 1, cs[1] = 4096, cs[2] = 16, cs[3] = (unsigned)apart + 4, *(unsigned *)apart = SIG, broken(); }
static void signature(void) { cs[0] = 0, cs[1] = 4096, cs[2] = 16, cs[3] = (unsigned)apart + 4, *(unsigned *)apart = 1, broken(); }
static void outside(void) { cs[0] = 0, cs[1] = 4096, cs[2] = 16, cs[3] = (unsigned)apart + 4, *(unsigned *)apart = SIG, broken(), shown("outside"); }
static void inside(void) { cs[0] = 0, cs[1] = (unsigned)apart, cs[2] = 16, cs[3] = (unsigned)apart + 4, *(unsigned *)apart = SIG, broken(); }
static void high(void) { cs[0] = 0, cs[1] = 0xfffffff0, cs[2] = 16, cs[3] = (unsigned)apart + 4, *(unsigned *)apart = SIG, broken(); }
static void wild(void) { area.rseq_cs = 16, raise(SIGUSR1); }
static void kernels(void) { area.rseq_cs = 0xffffff00u, raise(SIGUSR1); }
static void parent(void) { shown("forked"), R(call(&area, 32, 0, SIG)), R(call(&area, 32, 1, SIG)); }
static void unmapped(void) { R(munmap(mmap((void *)0x30000000, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), 4096)), R(call(&area, 32, 1, SIG)), R(call((void *)0x30000000, 32, 0, SIG)); }

int main(void)
{
    struct rseq *glibc = (void *)((char *)__builtin_thread_pointer() + __rseq_offset);
    cpu_set_t one;
    pthread_t threads[4];
    setvbuf(stdout, NULL, _IONBF, 0);
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    sched_setaffinity(0, sizeof one, &one);
    R(__rseq_size >= 20), R(__rseq_flags), R(glibc->cpu_id == (unsigned)sched_getcpu());
    for (int n = 0; n < 4; n++)
        pthread_create(threads + n, NULL, adder, NULL);
    for (int n = 0; n < 4; n++)
        pthread_join(threads[n], NULL);
    R(total);
    R(call(&area, 32, 0, SIG)), R(call(glibc, 32, 0, SIG)), R(call(glibc, 32, 0, 1)), R(call(glibc, 64, 0, SIG)), R(call(glibc, 32, 2, SIG)), R(call(glibc, 32, 3, SIG)), R(call(&area, 32, 1, SIG)), R(call(glibc, 64, 1, SIG)), R(call(glibc, 32, 1, 7));
    R(call(glibc, 32, 1, SIG)), R(glibc->cpu_id), R(call(glibc, 32, 1, SIG)), R(call(NULL, 0, 1, 0));
    R(call((char *)&area + 4, 32, 0, SIG)), R(call((char *)&area + 16, 32, 0, SIG)), R(call(&area, 31, 0, SIG)), R(call(&area, 0, 0, SIG)), R(call((void *)0xffffffe0, 32, 0, SIG)), R(call(&area, 32, 4, SIG)), shown("before");
    R(call(&area, 32, 0, SIG)), shown("registered"), R(call(&area, 32, 0, SIG));
    on(SIGUSR1, 0);
    R(add(&total, 0)), R(total), shown("added"), R(add(&total, SIGUSR1)), R(total), R(count), shown("aborted"), raise(SIGUSR1), shown("after a signal");
    child("elsewhere", elsewhere), child("version", version), child("signature", signature), child("outside", outside), child("inside", inside), child("high", high), child("wild", wild), child("kernel's", kernels), child("inherited", parent), child("unmapped", unmapped);
    R(call(&area, 32, 1, SIG)), shown("gone");
    return 0;
}
