/* A process that waits for another by sched_yield(2) alone: how often it asked, before the other had run. */
#include <sched.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void)
{
    volatile int *seen = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int times = 0;
    if (!fork()) {
        *seen = 1;
        _exit(0);
    }
    while (!*seen) {
        sched_yield();
        times++;
    }
    wait(NULL);
    printf("%d\n", times);
    return 0;
}
