/* openat2's rules for a walk, exclusive watches of epoll, timers by CPU time. */
#include "calls.h"
#include <linux/openat2.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

static char home[] = "/tmp/walkcalls.XXXXXX";

static void walk(int at, const char *path, unsigned long long flags, unsigned long long resolve)
{
    struct open_how how = {.flags = flags, .mode = flags & O_CREAT ? 0644 : 0, .resolve = resolve};
    struct stat status;
    errno = 0;
    long fd = syscall(437, at, path, &how, sizeof how);
    printf("%s %llx %llx: %s", strncmp(path, home, strlen(home)) ? path : "HOME", flags, resolve, fd < 0 ? strerrorname_np(errno) : "open");
    if (fd >= 0) {
        fstat(fd, &status);
        printf(" %o %d", status.st_mode & S_IFMT, S_ISREG(status.st_mode) ? (int)status.st_size : 0);
        close(fd);
    }
    printf("\n");
}

static void file(const char *path, int size)
{
    int fd = open(path, O_CREAT | O_RDWR, 0644);
    ftruncate(fd, size), close(fd);
}

static void rules(void)
{
    static const char *paths[] = {
        "f", "in/g", "in/../f", "..", "../f", "in/../../top/f", ".", "/", "/proc/version", "/f", home, "link", "inlink", "up", "abs", "absf",
        "dirlink/g", "uplink/f", "loop", "self/f", "/proc/self/exe", "in/../in/./g", "missing", "/missing", "in/up2/f", "nodir/../f", "f/..",
        "root/f", "fd", "fd/f", "cwd/f", "/dev/null", "dev",
    };
    static const unsigned long long sets[] = {0, RESOLVE_BENEATH, RESOLVE_IN_ROOT, RESOLVE_NO_SYMLINKS, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_XDEV,
                                              RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS, RESOLVE_IN_ROOT | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS};
    int at = open("top", O_RDONLY | O_DIRECTORY);
    for (unsigned s = 0; s < sizeof sets / sizeof *sets; s++)
        for (unsigned n = 0; n < sizeof paths / sizeof *paths; n++)
            if (strncmp(paths[n], "abs", 3) || !(sets[s] & RESOLVE_NO_XDEV)) /* /tmp may be mounted on its own */
                walk(at, paths[n], O_RDONLY, sets[s]);
    walk(at, "link", O_PATH | O_NOFOLLOW, RESOLVE_NO_SYMLINKS), walk(at, "link", O_RDONLY | O_NOFOLLOW, RESOLVE_NO_SYMLINKS);
    walk(at, "dirlink/g", O_PATH | O_NOFOLLOW, RESOLVE_NO_SYMLINKS);
    walk(at, "f", O_RDONLY, RESOLVE_BENEATH | RESOLVE_IN_ROOT), walk(at, "f", O_RDONLY, 0x40), walk(at, "f", O_RDONLY, 1ull << 40);
    walk(at, "new", O_CREAT | O_RDWR, RESOLVE_BENEATH), walk(at, "/new2", O_CREAT | O_RDWR, RESOLVE_IN_ROOT), walk(at, "new2", O_RDONLY, 0);
    walk(at, "../new3", O_CREAT | O_RDWR, RESOLVE_BENEATH), walk(at, "../new4", O_CREAT | O_RDWR, RESOLVE_IN_ROOT), walk(at, "new4", O_RDONLY, 0);
    walk(at, "uplink/new5", O_CREAT | O_RDWR, RESOLVE_BENEATH), walk(at, "f", O_DIRECTORY, RESOLVE_BENEATH), walk(at, "in", O_DIRECTORY, RESOLVE_BENEATH);
    walk(-1, "f", O_RDONLY, RESOLVE_BENEATH), walk(-1, "/f", O_RDONLY, RESOLVE_IN_ROOT), walk(AT_FDCWD, "top/f", O_RDONLY, RESOLVE_BENEATH);
    walk(AT_FDCWD, "/top/f", O_RDONLY, RESOLVE_IN_ROOT), walk(AT_FDCWD, "../f", O_RDONLY, RESOLVE_BENEATH), walk(at, "", O_RDONLY, RESOLVE_BENEATH);
    fchdir(at), walk(AT_FDCWD, "in/../f", O_RDONLY, RESOLVE_BENEATH), walk(AT_FDCWD, "uplink/f", O_RDONLY, RESOLVE_IN_ROOT), chdir("..");
}

/* --- exclusive watches ---------------------------------------------------------------------------------------------*/

static int event, woken;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void *waiter(void *how)
{
    struct epoll_event told;
    int epoll = epoll_create1(0);
    struct epoll_event wanted = {.events = EPOLLIN | (unsigned)(long)how};
    epoll_ctl(epoll, EPOLL_CTL_ADD, event, &wanted);
    if (epoll_wait(epoll, &told, 1, 700) == 1) {
        pthread_mutex_lock(&lock), woken++, pthread_mutex_unlock(&lock);
    }
    close(epoll);
    return NULL;
}

static void wakes(int shared, int exclusive)
{
    pthread_t threads[8];
    unsigned long long one = 1;
    event = eventfd(0, 0), woken = 0;
    for (int n = 0; n < shared + exclusive; n++)
        pthread_create(threads + n, NULL, waiter, (void *)(long)(n < shared ? 0 : EPOLLEXCLUSIVE));
    usleep(200000);
    write(event, &one, 8);
    for (int n = 0; n < shared + exclusive; n++)
        pthread_join(threads[n], NULL);
    printf("%d shared and %d exclusive waiters: %d woken\n", shared, exclusive, woken);
    close(event);
}

static void without_waiters(void)
{
    int quiet = epoll_create1(0), other = epoll_create1(0);
    struct epoll_event wanted = {.events = EPOLLIN | EPOLLEXCLUSIVE}, told;
    unsigned long long one = 1;
    event = eventfd(0, 0);
    R(epoll_ctl(quiet, EPOLL_CTL_ADD, event, &wanted)), R(epoll_ctl(other, EPOLL_CTL_ADD, event, &wanted));
    R(epoll_ctl(other, EPOLL_CTL_MOD, event, &wanted));
    write(event, &one, 8);
    R(epoll_wait(quiet, &told, 1, 0)), R(epoll_wait(other, &told, 1, 0));
    R(epoll_wait(quiet, &told, 1, 0));
}

/* --- timers by CPU time --------------------------------------------------------------------------------------------*/

static volatile int fired, code, value, overruns;

static void fire(int signal, siginfo_t *info, void *context) { fired++, code = info->si_code, value = info->si_value.sival_int; }

static long long used(int clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * 1000000000ll + now.tv_nsec;
}

static void burn(int ms, int clock)
{
    long long end = used(clock) + ms * 1000000ll;
    while (used(clock) < end && !fired)
        for (volatile int n = 0; n < 30000; n++)
            ;
}

static void cpu_timer(int clock, int signal)
{
    timer_t timer;
    struct sigevent how = {.sigev_notify = signal ? SIGEV_SIGNAL : SIGEV_NONE, .sigev_signo = signal, .sigev_value.sival_int = 11};
    struct itimerspec set = {.it_value = {0, 20000000}}, left;
    fired = 0;
    errno = 0;
    if (timer_create(clock, &how, &timer)) {
        printf("clock %d: %s\n", clock, strerrorname_np(errno));
        return;
    }
    R(timer_gettime(timer, &left)), printf("%d %d\n", left.it_value.tv_sec == 0, left.it_value.tv_nsec == 0);
    R(timer_settime(timer, 0, &set, NULL)), timer_gettime(timer, &left);
    printf("left %d\n", left.it_value.tv_nsec > 0 && left.it_value.tv_nsec <= 20000000);
    usleep(50000);
    printf("sleeping %d\n", fired);
    burn(signal ? 2000 : 30, CLOCK_PROCESS_CPUTIME_ID);
    printf("burning %d code %d value %d\n", fired, fired ? code : 0, fired ? value : 0);
    timer_gettime(timer, &left), printf("left %d %d\n", (int)left.it_value.tv_sec, left.it_value.tv_nsec == 0);
    fired = 0, set.it_interval.tv_nsec = 10000000;
    R(timer_settime(timer, 0, &set, NULL));
    for (int n = 0; signal && n < 3; n++)
        fired = 0, burn(2000, CLOCK_PROCESS_CPUTIME_ID), printf("again %d\n", fired);
    memset(&set, 0, sizeof set), fired = 0;
    R(timer_settime(timer, 0, &set, &left)), printf("interval %ld\n", left.it_interval.tv_nsec);
    burn(30, CLOCK_PROCESS_CPUTIME_ID), printf("off %d\n", fired);
    set.it_value.tv_nsec = 1, fired = 0;
    R(timer_settime(timer, TIMER_ABSTIME, &set, NULL)), burn(100, CLOCK_PROCESS_CPUTIME_ID), printf("past %d\n", fired);
    R(timer_delete(timer));
}

static void *other_thread(void *unused)
{
    struct sigevent how = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    timer_t timer;
    struct itimerspec set = {.it_value = {0, 10000000}};
    fired = 0;
    timer_create(CLOCK_THREAD_CPUTIME_ID, &how, &timer), timer_settime(timer, 0, &set, NULL);
    burn(1000, CLOCK_THREAD_CPUTIME_ID);
    printf("a thread's own %d\n", fired);
    timer_delete(timer);
    return NULL;
}

static void cpu_timers(void)
{
    struct sigaction action = {.sa_sigaction = fire, .sa_flags = SA_SIGINFO | SA_RESTART};
    pthread_t thread;
    clockid_t clock;
    sigaction(SIGUSR1, &action, NULL);
    cpu_timer(CLOCK_PROCESS_CPUTIME_ID, SIGUSR1), cpu_timer(CLOCK_THREAD_CPUTIME_ID, SIGUSR1), cpu_timer(CLOCK_PROCESS_CPUTIME_ID, 0);
    clock_getcpuclockid(0, &clock), cpu_timer(clock, SIGUSR1);
    pthread_getcpuclockid(pthread_self(), &clock), cpu_timer(clock, SIGUSR1);
    cpu_timer(-1, SIGUSR1), cpu_timer(~99999 << 3 | 2, SIGUSR1), cpu_timer(~99999 << 3 | 6, SIGUSR1), cpu_timer(~0 << 3 | 3, SIGUSR1);
    pthread_create(&thread, NULL, other_thread, NULL), pthread_join(thread, NULL);
}

int main(void)
{
    setbuf(stdout, NULL);
    if (!mkdtemp(home) || chdir(home))
        return 1;
    mkdir("top", 0755), mkdir("top/in", 0755), file("f", 1), file("top/f", 2), file("top/in/g", 3);
    symlink("f", "top/link"), symlink("in/g", "top/inlink"), symlink("../f", "top/up"), symlink("/proc/version", "top/abs"), symlink("/f", "top/absf");
    symlink("in", "top/dirlink"), symlink("..", "top/uplink"), symlink("loop", "top/loop"), symlink(".", "top/self"), symlink("..", "top/in/up2");
    symlink("/proc/self/root", "top/root"), symlink("/proc/self/fd", "top/fd"), symlink("/proc/self/cwd", "top/cwd"), symlink("/dev", "top/dev");
    rules();
    wakes(0, 4), wakes(1, 4), wakes(3, 0), wakes(2, 1), without_waiters();
    cpu_timers();
    return 0;
}
