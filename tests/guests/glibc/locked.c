/* Counts with LOCKed instructions and without, in memory that two threads, two processes or two machines share.
   The arguments: how often, and the file that other machines map too. */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

struct counts {
    volatile int increased, added, exchanged, plain;
};

static int times;

static void *count(void *at)
{
    struct counts *c = at;
    for (int i = 0; i < times; i++) {
        int old = c->exchanged, one = 1, found;
        __asm__ volatile("lock incl %0" : "+m"(c->increased));
        __asm__ volatile("lock xaddl %1, %0" : "+m"(c->added), "+r"(one));
        while (1) {
            __asm__ volatile("lock cmpxchgl %3, %0" : "+m"(c->exchanged), "=a"(found) : "1"(old), "r"(old + 1));
            if (found == old)
                break;
            old = found;
        }
        old = c->plain;
        __asm__ volatile("nop; nop; nop; nop; nop; nop; nop; nop");
        c->plain = old + 1;
    }
    return 0;
}

static struct counts *mapped(int flags, int fd)
{
    struct counts *c = mmap(0, 4096, PROT_READ | PROT_WRITE, flags, fd, 0);
    if (c == MAP_FAILED)
        exit(1);
    return c;
}

static void tell(const char *who, struct counts *c, int all)
{
    printf("%s %d %d %d, %s\n", who, c->increased, c->added, c->exchanged,
           c->plain < all ? "some were lost without LOCK" : "none was lost");
}

int main(int argc, char **argv)
{
    static struct counts threads;
    pthread_t other;
    times = atoi(argv[1]);
    if (argc > 2) {
        int fd = open(argv[2], O_RDWR);
        struct counts *file = mapped(MAP_SHARED, fd);
        count(file);
        printf("done\n");
        return 0;
    }
    pthread_create(&other, 0, count, &threads);
    count(&threads);
    pthread_join(other, 0);
    tell("threads", &threads, 2 * times);

    struct counts *processes = mapped(MAP_SHARED | MAP_ANONYMOUS, -1);
    if (fork() == 0) {
        count(processes);
        _exit(0);
    }
    count(processes);
    wait(0);
    tell("processes", processes, 2 * times);
    return 0;
}
