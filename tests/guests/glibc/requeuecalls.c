/* FUTEX_WAIT_REQUEUE_PI and FUTEX_CMP_REQUEUE_PI: waiting for a condition, and for a lock right after it. */
#include "calls.h"
#include <linux/futex.h>

static volatile unsigned cond __attribute__((aligned(64))), lock, other_lock, plain;
static volatile int waiting;
static long futex(volatile void *at, int op, unsigned val, void *timeout, volatile void *at2, unsigned val3) { return syscall(SYS_futex, at, op, val, timeout, at2, val3); }
#define WAIT_RQ (FUTEX_WAIT_REQUEUE_PI | FUTEX_PRIVATE_FLAG)
#define CMP_RQ (FUTEX_CMP_REQUEUE_PI | FUTEX_PRIVATE_FLAG)

static void word(const char *what, unsigned value)
{
    printf("%s: %s%s%s\n", what, value & FUTEX_WAITERS ? "waiters " : "", value & FUTEX_OWNER_DIED ? "died " : "",
           (value & FUTEX_TID_MASK) == (unsigned)gettid() ? "mine" : value & FUTEX_TID_MASK ? "another's" : "free");
}

struct turn {
    struct timespec *until;
    long result;
    int error, done, tid, clock;
    unsigned word;
};

static void *waiter(void *argument)
{
    struct turn *turn = argument;
    turn->tid = gettid();
    waiting++;
    errno = 0;
    turn->result = futex(&cond, WAIT_RQ | turn->clock, cond, turn->until, &lock, 0), turn->error = errno;
    turn->word = lock;
    turn->done = 1;
    if (!turn->result)
        turn->result = (turn->word & FUTEX_TID_MASK) == (unsigned)turn->tid ? 77 : 78, futex(&lock, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0);
    return argument;
}

static void told(const char *what, struct turn *turn)
{
    printf("%s: %d %ld %s\n", what, turn->done, turn->result, turn->error ? strerrorname_np(turn->error) : "-");
}

static pthread_t threads[8];
static struct turn turns[8];
static void start(int count, struct timespec *until, int clock)
{
    waiting = 0;
    for (int n = 0; n < count; n++)
        turns[n] = (struct turn){.until = until, .clock = clock}, pthread_create(threads + n, NULL, waiter, turns + n);
    while (waiting < count)
        usleep(1000);
    usleep(20000);
}
static void finish(int count)
{
    for (int n = 0; n < count; n++)
        pthread_join(threads[n], NULL);
    int done[100] = {0};
    for (int n = 0; n < count; n++)
        printf("thread: %d %ld %s\n", turns[n].done, turns[n].result, turns[n].error ? strerrorname_np(turns[n].error) : "-");
    word("lock", lock);
}

static void arguments(void)
{
    struct timespec past = {1, 0}, bad = {0, 2000000000};
    R(futex(&cond, WAIT_RQ, 1, NULL, &lock, 0)), R(futex(&cond, WAIT_RQ, 0, &past, &lock, 0)), R(futex(&cond, WAIT_RQ, 0, &bad, &lock, 0)), R(futex(&cond, WAIT_RQ, 0, NULL, &cond, 0));
    R(futex((char *)&cond + 1, WAIT_RQ, 0, &past, &lock, 0)), R(futex(&cond, WAIT_RQ, 0, &past, (char *)&lock + 2, 0)), R(futex((void *)16, WAIT_RQ, 0, &past, &lock, 0)), R(futex(&cond, WAIT_RQ, 0, &past, (void *)16, 0)), R(futex(&cond, WAIT_RQ | FUTEX_CLOCK_REALTIME, 0, &past, &lock, 0));
    R(futex(&cond, CMP_RQ, 1, (void *)0, &lock, 0)), R(futex(&cond, CMP_RQ, 1, (void *)5, &lock, 1)), R(futex(&cond, CMP_RQ, 0, (void *)0, &lock, 0)), R(futex(&cond, CMP_RQ, 2, (void *)0, &lock, 0)), R(futex(&cond, CMP_RQ, 1, (void *)-1, &lock, 0)), R(futex(&cond, CMP_RQ, 1, (void *)0, &cond, 0));
    R(futex(&cond, CMP_RQ, 1, (void *)0, (char *)&lock + 1, 0)), R(futex((void *)16, CMP_RQ, 1, (void *)0, &lock, 0)), R(futex(&cond, CMP_RQ, 1, (void *)0, (void *)16, 0)), R(futex(&cond, CMP_RQ | FUTEX_CLOCK_REALTIME, 1, (void *)0, &lock, 0));
    R(lock);
}

int main(void)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    arguments();
    puts("-- a free lock goes to the first");
    start(3, NULL, 0), R(futex(&cond, CMP_RQ, 1, (void *)5, &lock, 0)), finish(3);
    puts("-- a lock that is held");
    start(3, NULL, 0), R(futex(&lock, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0)), word("lock", lock), R(futex(&cond, CMP_RQ, 1, (void *)1, &lock, 0)), word("lock", lock), usleep(20000), R(turns[0].done + turns[1].done + turns[2].done);
    R(futex(&cond, CMP_RQ, 1, (void *)0, &lock, 7)), R(futex(&cond, CMP_RQ, 1, (void *)0, &lock, 0)), R(futex(&cond, CMP_RQ, 1, (void *)0, &lock, 0)), R(futex(&lock, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0)), finish(3);
    puts("-- only one, none to be moved");
    start(2, NULL, 0), R(futex(&cond, CMP_RQ, 1, (void *)0, &lock, 0)), usleep(20000), R(turns[0].done + turns[1].done), R(futex(&cond, CMP_RQ, 1, (void *)0, &lock, 0)), finish(2);
    puts("-- what does not go together");
    start(1, NULL, 0), R(futex(&cond, CMP_RQ, 1, (void *)0, &other_lock, 0)), R(futex(&cond, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0)), R(futex(&cond, FUTEX_REQUEUE_PRIVATE, 1, (void *)1, &plain, 0)), R(futex(&cond, FUTEX_CMP_REQUEUE_PRIVATE, 0, (void *)1, &plain, 0)), R(futex(&cond, FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, &plain, 0));
    R(futex(&plain, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0)), R(futex(&plain, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0)), R(futex(&cond, CMP_RQ, 1, (void *)0, &lock, 0)), finish(1);
    puts("-- times that pass before and after");
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until), until.tv_nsec += 60000000, until.tv_sec += until.tv_nsec / 1000000000, until.tv_nsec %= 1000000000;
    start(1, &until, 0), finish(1);
    clock_gettime(CLOCK_REALTIME, &until), until.tv_nsec += 90000000, until.tv_sec += until.tv_nsec / 1000000000, until.tv_nsec %= 1000000000;
    start(1, &until, FUTEX_CLOCK_REALTIME), R(futex(&lock, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0)), R(futex(&cond, CMP_RQ, 1, (void *)0, &lock, 0)), usleep(150000), word("lock", lock), finish(1), R(futex(&lock, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0)), word("lock", lock);
    puts("-- signals before and after");
    on(SIGUSR1, 0), start(1, NULL, 0), pthread_kill(threads[0], SIGUSR1), usleep(20000), R(turns[0].done), R(count), R(futex(&cond, CMP_RQ, 1, (void *)0, &lock, 0)), finish(1);
    on(SIGUSR1, SA_RESTART), start(1, NULL, 0), pthread_kill(threads[0], SIGUSR1), usleep(20000), R(turns[0].done), R(count), R(futex(&cond, CMP_RQ, 1, (void *)0, &lock, 0)), finish(1);
    start(1, NULL, 0), R(futex(&lock, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0)), R(futex(&cond, CMP_RQ, 1, (void *)0, &lock, 0)), pthread_kill(threads[0], SIGUSR1), usleep(20000), R(turns[0].done), R(count), R(futex(&lock, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0)), finish(1);
    puts("-- an owner that is none, and oneself");
    start(1, NULL, 0), lock = 0x3ffffff0, R(futex(&cond, CMP_RQ, 1, (void *)0, &lock, 0)), lock = gettid(), R(futex(&cond, CMP_RQ, 1, (void *)0, &lock, 0)), word("lock", lock), usleep(20000), R(turns[0].done), R(futex(&lock, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0)), finish(1);
    start(1, NULL, 0), lock = turns[0].tid, R(futex(&cond, CMP_RQ, 1, (void *)0, &lock, 0)), usleep(20000), R(turns[0].done), lock = 0, R(futex(&cond, CMP_RQ, 1, (void *)0, &lock, 0)), finish(1);
    return 0;
}
