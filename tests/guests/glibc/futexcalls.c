/* Priority-inheritance futexes: owners, errors, who comes next, times, and what owners leave that end. */
#include "calls.h"
#include <linux/futex.h>

static unsigned word, *shared;
static volatile int places;
static pthread_mutex_t mutex;

#ifndef FUTEX_LOCK_PI2
#define FUTEX_LOCK_PI2 13
#endif
#define FUTEX(address, op, time) syscall(SYS_futex, address, op, 0, time, 0, 0)

static void state(unsigned value)
{
    unsigned tid = value & FUTEX_TID_MASK;
    printf("word: %s%s%s\n", tid == gettid() ? "mine" : tid ? "another's" : "free", value & FUTEX_WAITERS ? " waited for" : "",
           value & FUTEX_OWNER_DIED ? " left" : "");
}

static void alone(void)
{
    struct timespec past = {1, 0}, wrong = {0, -1};
    word = 0;
    R(FUTEX(&word, FUTEX_LOCK_PI, NULL)), state(word);
    R(FUTEX(&word, FUTEX_LOCK_PI, NULL)), R(FUTEX(&word, FUTEX_TRYLOCK_PI, NULL)), state(word);
    R(FUTEX(&word, FUTEX_UNLOCK_PI, NULL)), state(word);
    R(FUTEX(&word, FUTEX_UNLOCK_PI, NULL));
    R(FUTEX(&word, FUTEX_TRYLOCK_PI_PRIVATE, NULL)), state(word);
    R(FUTEX(&word, FUTEX_UNLOCK_PI_PRIVATE, NULL)), state(word);
    word = FUTEX_OWNER_DIED;
    R(FUTEX(&word, FUTEX_LOCK_PI, NULL)), state(word);
    word = 0x3ffffff0;
    R(FUTEX(&word, FUTEX_LOCK_PI, NULL)), state(word);
    R(FUTEX(&word, FUTEX_UNLOCK_PI, NULL));
    R(FUTEX((char *)&word + 1, FUTEX_LOCK_PI, NULL)), R(FUTEX(4096, FUTEX_LOCK_PI, NULL));
    R(FUTEX(4096, FUTEX_UNLOCK_PI_PRIVATE, NULL)), R(FUTEX(state, FUTEX_LOCK_PI_PRIVATE, NULL));
    R(FUTEX(&word, FUTEX_LOCK_PI | FUTEX_CLOCK_REALTIME, NULL)), R(FUTEX(&word, FUTEX_LOCK_PI, &wrong));
    word = getppid(); /* which does not unlock it */
    R(FUTEX(&word, FUTEX_TRYLOCK_PI, NULL)), state(word);
    R(FUTEX(&word, FUTEX_LOCK_PI, &past)), state(word);
    R(FUTEX(&word, FUTEX_LOCK_PI2, &past));
    R(FUTEX(&word, FUTEX_LOCK_PI2 | FUTEX_CLOCK_REALTIME, &past));
}

static void *waits(void *number)
{
    usleep((int)number * 20000);
    long result = FUTEX(&word, FUTEX_LOCK_PI_PRIVATE, NULL);
    printf("%d: %ld, place %d, ", (int)number, result, places++), state(word);
    FUTEX(&word, FUTEX_UNLOCK_PI_PRIVATE, NULL);
    return NULL;
}

static void several(void)
{
    pthread_t threads[3];
    word = 0;
    R(FUTEX(&word, FUTEX_LOCK_PI_PRIVATE, NULL));
    for (int i = 0; i < 3; i++)
        pthread_create(threads + i, NULL, waits, (void *)(i + 1));
    usleep(120000);
    state(word);
    R(FUTEX(&word, FUTEX_WAKE_PRIVATE, NULL));
    R(FUTEX(&word, FUTEX_TRYLOCK_PI_PRIVATE, NULL));
    R(FUTEX(&word, FUTEX_UNLOCK_PI_PRIVATE, NULL));
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    state(word);
    R(places);
}

static void interrupted(void)
{
    pid_t pid, owner;
    struct timespec until;
    on(SIGUSR1, 0);
    *shared = 0, count = 0;
    owner = fork();
    if (!owner) {
        FUTEX(shared, FUTEX_LOCK_PI, NULL);
        usleep(150000);
        _exit(FUTEX(shared, FUTEX_UNLOCK_PI, NULL));
    }
    usleep(40000);
    pid = LATER(30, kill(getppid(), SIGUSR1));
    R(FUTEX(shared, FUTEX_LOCK_PI, NULL)), state(*shared); /* a signal begins it anew, whatever its handler asks for */
    R(count);
    ended(pid), ended(owner);
    R(FUTEX(shared, FUTEX_UNLOCK_PI, NULL)), state(*shared);
    owner = fork();
    if (!owner) {
        FUTEX(shared, FUTEX_LOCK_PI, NULL);
        usleep(150000);
        _exit(0); /* and leaves it */
    }
    usleep(40000);
    clock_gettime(CLOCK_REALTIME, &until);
    R(FUTEX(shared, FUTEX_LOCK_PI, &until)), state(*shared);
    R(FUTEX(shared, FUTEX_LOCK_PI, NULL)), state(*shared);
    ended(owner);
    R(FUTEX(shared, FUTEX_UNLOCK_PI, NULL)), state(*shared);
}

static void *leaves(void *unused)
{
    R(pthread_mutex_lock(&mutex));
    usleep(60000);
    return NULL;
}

static void libraries(int robust)
{
    pthread_mutexattr_t attributes;
    pthread_t thread;
    struct timespec until;
    pthread_mutexattr_init(&attributes);
    R(pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT));
    R(pthread_mutexattr_setrobust(&attributes, robust ? PTHREAD_MUTEX_ROBUST : PTHREAD_MUTEX_STALLED));
    R(pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK));
    R(pthread_mutex_init(&mutex, &attributes));
    R(pthread_mutex_lock(&mutex)), R(pthread_mutex_lock(&mutex)), R(pthread_mutex_unlock(&mutex));
    R(pthread_mutex_unlock(&mutex));
    if (!robust)
        return;
    pthread_create(&thread, NULL, leaves, NULL);
    usleep(30000);
    R(pthread_mutex_trylock(&mutex));
    clock_gettime(CLOCK_REALTIME, &until);
    R(pthread_mutex_timedlock(&mutex, &until));
    R(pthread_mutex_lock(&mutex)), R(pthread_mutex_consistent(&mutex)), R(pthread_mutex_unlock(&mutex));
    R(pthread_join(thread, NULL)), R(pthread_mutex_lock(&mutex)), R(pthread_mutex_unlock(&mutex));
}

int main(void)
{
    begin();
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pid = fork(); /* its parent has a thread id that it may wait for */
    if (!pid) {
        alone();
        _exit(0);
    }
    ended(pid);
    several();
    interrupted();
    libraries(0), libraries(1);
    return 0;
}
