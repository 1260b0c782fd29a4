/* Programs that take all they can get: argv[1] says of what. Each goes on until it is refused for good, or ended. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static void *sleeper(void *unused) {
    pause();
    return unused;
}

static void forks(void) {
    for (;;) fork();
}

static void sleeping_forks(void) {
    int n = 0;
    for (; n < 100000; n++) {
        pid_t pid = fork();
        if (pid < 0) break;
        if (!pid) pause(), _exit(0);
    }
    printf("processes refused with %s\n", strerrorname_np(errno));
}

static void threads(void) {
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 16384);
    int error = 0;
    for (long n = 0; n < 1000000 && !error; n++) {
        pthread_t t;
        error = pthread_create(&t, &attr, sleeper, 0);
    }
    printf("threads refused with %s\n", strerrorname_np(error));
}

static void memory(void) {
    for (;;) {
        char *p = malloc(1 << 20);
        if (!p) break;
        memset(p, 1, 1 << 20);
    }
    printf("memory refused with %s\n", strerrorname_np(errno));
}

static void larger(void) {
    char *p = malloc(33 << 20);
    if (!p) printf("a larger mapping refused with %s\n", strerrorname_np(errno));
}

static void mappings(void) {
    long n = 0;
    while (mmap(0, 4096, n & 1 ? PROT_READ : PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED) n++;
    printf("mappings refused with %s\n", strerrorname_np(errno));
}

static void children_with_memory(void) {
    for (;;) {
        if (fork() >= 0)
            for (int n = 0; n < 64; n++) {
                char *p = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
                if (p != MAP_FAILED) memset(p, 1, 1 << 20);
            }
    }
}

static void descriptors(void) {
    long n = 0;
    int p[2];
    while (!pipe(p) && ++n < 1000000)
        if (write(p[1], "x", 1) != 1) break;
    printf("descriptors refused with %s\n", strerrorname_np(errno));
}

static void full_pipes(void) {
    static char page[65536];
    int p[2];
    while (!pipe2(p, O_NONBLOCK))
        while (write(p[1], page, sizeof page) > 0) {}
    printf("pipes refused with %s\n", strerrorname_np(errno));
}

static void sockets_in_sockets(void) {
    int p[2];
    for (;;) {
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, p)) break;
        for (int n = 0; n < 1000; n++) {
            char control[CMSG_SPACE(2 * sizeof(int))] = {0};
            struct iovec iov = {"x", 1};
            struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
            struct cmsghdr *c = CMSG_FIRSTHDR(&m);
            *c = (struct cmsghdr){CMSG_LEN(2 * sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
            memcpy(CMSG_DATA(c), p, 2 * sizeof(int));
            if (sendmsg(p[0], &m, MSG_DONTWAIT) < 0) break;
        }
        close(p[0]);
        close(p[1]);
    }
    printf("sockets refused with %s\n", strerrorname_np(errno));
}

static void output(void) {
    static char block[1 << 20];
    memset(block, 'x', sizeof block);
    for (long n = 0; n < 10240; n++)
        for (size_t at = 0; at < sizeof block;) {
            ssize_t done = write(1, block + at, sizeof block - at);
            if (done < 0) _exit(3);
            at += done;
        }
}

static void files(void) {
    static char block[1 << 20];
    memset(block, 'x', sizeof block);
    int fd = open("/tmp/big", O_RDWR | O_CREAT, 0600);
    while (write(fd, block, sizeof block) > 0) {}
    printf("bytes of files refused with %s\n", strerrorname_np(errno));
    char name[64];
    long n = 0;
    do {
        sprintf(name, "/tmp/f%ld", n++);
        close(fd);
        fd = open(name, O_RDWR | O_CREAT, 0600);
    } while (fd >= 0 && n < 10000000);
    printf("files refused with %s\n", strerrorname_np(errno));
}

static void links(void) {
    symlink("/tmp/b", "/tmp/a");
    symlink("/tmp/a", "/tmp/b");
    printf("open of a loop: %s\n", open("/tmp/a", O_RDONLY) < 0 ? strerrorname_np(errno) : "open");
    char name[32], to[32];
    symlink("/", "/tmp/l0");
    for (int n = 1; n < 200; n++) {
        sprintf(name, "/tmp/l%d", n);
        sprintf(to, "/tmp/l%d/tmp/l%d", n - 1, n - 1);
        symlink(to, name);
    }
    printf("open of a tower: %s\n", open("/tmp/l199/x", O_RDONLY) < 0 ? strerrorname_np(errno) : "open");
}

static void deep(void) {
    long n = 0;
    chdir("/tmp");
    while (n < 1000000 && !mkdir("d", 0700) && !chdir("d")) n++;
    printf("directories refused with %s\n", n < 1000000 ? strerrorname_np(errno) : "nothing");
    char *cwd = getcwd(0, 0);
    printf("getcwd: %s\n", cwd ? "there" : strerrorname_np(errno));
}

static volatile int handled;
static void handler(int signo) {
    handled++;
    kill(getppid() == 1 ? getpid() : getppid(), signo);
}

static void signals(void) {
    struct sigaction a = {.sa_handler = handler, .sa_flags = SA_NODEFER};
    for (int n = 1; n < 65; n++) sigaction(n, &a, 0);
    struct itimerval often = {{0, 1}, {0, 1}};
    setitimer(ITIMER_REAL, &often, 0);
    fork(), fork(), fork();
    for (;;)
        for (int n = 34; n < 64; n++) kill(0, n);
}

static void queued(void) {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, 0);
    union sigval v = {0};
    long n = 0;
    while (!sigqueue(getpid(), 40, v) && n < 100000000) n++;
    printf("signals refused with %s\n", strerrorname_np(errno));
}

static void watched(void) {
    int top = epoll_create1(0);
    for (;;) {
        int fd = eventfd(0, 0);
        if (fd < 0) break;
        struct epoll_event e = {EPOLLIN | EPOLLET, {.fd = fd}};
        if (epoll_ctl(top, EPOLL_CTL_ADD, fd, &e)) break;
        if (fork() == 0) for (;;) eventfd_write(fd, 1), epoll_wait(top, &e, 1, 0);
    }
    printf("watches refused with %s\n", strerrorname_np(errno));
}

int main(int argc, char **argv) {
    static const struct { const char *name; void (*run)(void); } all[] = {
        {"forks", forks}, {"sleeping_forks", sleeping_forks}, {"threads", threads}, {"memory", memory},
        {"larger", larger},
        {"mappings", mappings}, {"children_with_memory", children_with_memory}, {"descriptors", descriptors},
        {"full_pipes", full_pipes}, {"sockets_in_sockets", sockets_in_sockets}, {"output", output}, {"files", files},
        {"links", links}, {"deep", deep}, {"signals", signals}, {"queued", queued}, {"watched", watched},
    };
    setvbuf(stdout, 0, _IOLBF, 0);
    for (size_t n = 0; n < sizeof all / sizeof *all; n++)
        if (argc > 1 && !strcmp(argv[1], all[n].name)) all[n].run();
    return 0;
}
