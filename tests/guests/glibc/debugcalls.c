/* What a debugger does beyond stopping and stepping: debug registers, TLS descriptors, signals that wait, /proc/pid/mem. */
#include "calls.h"
#include <asm/ldt.h>
#include <elf.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/user.h>

#define DR(n) (offsetof(struct user, u_debugreg) + 4 * (n))
#define LOCAL(n) (1 << 2 * (n))
#define PLACE(n, kind, length) (LOCAL(n) | ((length) << 2 | (kind)) << (16 + 4 * (n)))
enum { EXECUTE, WRITE, IO, ACCESS };
enum { ONE, TWO, EIGHT, FOUR };

static volatile int watched, other;
static volatile char bytes[16] __attribute__((aligned(16)));
static pid_t pid;
static struct user_regs_struct regs;

static void __attribute__((noinline, noclone)) function(void) { asm volatile("nop" ::: "memory"); }

#define P(request, address, data) R(ptrace(request, pid, (void *)(address), (void *)(data)))
#define POKE(n, value) (errno = 0, printf("DR%d: ", n), show("poke", ptrace(PTRACE_POKEUSER, pid, (void *)DR(n), (void *)(value))))

static void peek(int n)
{
    errno = 0;
    long value = ptrace(PTRACE_PEEKUSER, pid, (void *)DR(n), NULL);
    printf("DR%d is %lx %s\n", n, value, errno ? strerrorname_np(errno) : "");
}

/* Wait for the child; the stop as text, with where it is in our own words. */
static int stopped(void)
{
    int status;
    siginfo_t info;
    if (waitpid(pid, &status, 0) != pid)
        return printf("nobody\n"), 0;
    if (!WIFSTOPPED(status))
        return printf("end %d %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -1, WIFSIGNALED(status) ? WTERMSIG(status) : 0), 0;
    ptrace(PTRACE_GETSIGINFO, pid, NULL, &info);
    ptrace(PTRACE_GETREGS, pid, NULL, &regs);
    int at = (unsigned long)info.si_addr == regs.eip && WSTOPSIG(status) == SIGTRAP;
    printf("stop %d, code %d%s%s\n", WSTOPSIG(status), info.si_code, at ? ", at EIP" : "",
           regs.eip == (long)function ? ", function" : "");
    return WSTOPSIG(status);
}

static void go_on(int request) { ptrace(request, pid, NULL, NULL); }

static void child(void (*body)(void))
{
    if (!(pid = fork())) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGSTOP);
        body();
        _exit(7);
    }
    stopped();
}

static void finish(void)
{
    int signal;
    for (int n = 0; n < 20; n++) {
        ptrace(PTRACE_CONT, pid, NULL, NULL);
        if (!(signal = stopped()))
            return;
        peek(6);
    }
    kill(pid, SIGKILL), stopped();
}

static void writes(void)
{
    int pair[2];
    other = 1;
    watched = 5;     /* a write */
    other = watched; /* a load */
    watched = 5;     /* the same value */
    watched++;       /* both at once */
    bytes[3] = 1, bytes[4] = 2;
    asm volatile("movl $1, %0" : "=m"(*(int *)(bytes + 2)));
    asm volatile("rep stosb" ::"D"(bytes), "c"(16), "a"(0) : "memory");
    pipe(pair);
    write(pair[1], "abcd", 4);
    read(pair[0], (void *)&watched, 4); /* the kernel's own write */
    function(), function();
    raise(SIGUSR2);
}

static void refused(void)
{
    child(writes);
    for (int n = 0; n < 8; n++)
        peek(n);
    POKE(4, 0), POKE(5, 1);
    POKE(7, LOCAL(0));
    POKE(7, PLACE(0, IO, ONE)), POKE(7, PLACE(0, EXECUTE, TWO)), POKE(7, PLACE(0, EXECUTE, FOUR));
    POKE(0, (long)&watched), peek(0);
    POKE(7, PLACE(0, WRITE, FOUR)), peek(7);
    POKE(0, (long)&watched + 1), peek(0);
    POKE(7, PLACE(0, WRITE, ONE)), POKE(0, (long)&watched + 1), peek(0);
    POKE(7, PLACE(0, WRITE, TWO)), peek(7);
    POKE(7, 0), peek(7);
    POKE(6, 0), peek(6), POKE(6, 0xffff0ff0), peek(6);
    POKE(0, 0);
    finish();
}

static void watches(int kind, int length, volatile void *place)
{
    printf("-- kind %d, length %d\n", kind, length);
    child(writes);
    POKE(0, place), POKE(7, PLACE(0, kind, length));
    finish();
}

static void several(void)
{
    printf("-- several\n");
    child(writes);
    POKE(0, &watched), POKE(1, function), POKE(2, bytes), POKE(3, bytes + 4);
    POKE(7, PLACE(0, WRITE, FOUR) | PLACE(1, EXECUTE, ONE) | PLACE(2, WRITE, FOUR) | PLACE(3, ACCESS, ONE));
    finish();
}

static void changed(void)
{
    printf("-- changed on the way, and steps\n");
    child(writes);
    POKE(0, &watched), POKE(7, PLACE(0, WRITE, FOUR));
    go_on(PTRACE_CONT), stopped(), peek(6);
    POKE(6, 0);
    go_on(PTRACE_SINGLESTEP), stopped(), peek(6);
    POKE(7, 0);
    POKE(1, function), POKE(7, PLACE(1, EXECUTE, ONE));
    go_on(PTRACE_CONT), stopped(), peek(6);
    go_on(PTRACE_SINGLESTEP), stopped(), peek(6);
    finish();
}

static void forks(void)
{
    pid_t inner = fork();
    if (!inner) {
        watched = 9;
        _exit(3);
    }
    int status;
    waitpid(inner, &status, 0);
    printf("its child: %d %d\n", WIFEXITED(status), WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
}

static void inherited(void)
{
    printf("-- a child of the child has none\n");
    child(forks);
    POKE(0, &watched), POKE(7, PLACE(0, WRITE, FOUR));
    finish();
}

static void execs(void)
{
    if (!getenv("SECOND")) {
        setenv("SECOND", "1", 1);
        execl("/proc/self/exe", "debugcalls", NULL);
    }
}

static void after_exec(void)
{
    printf("-- nor has another program\n");
    child(execs);
    POKE(0, &watched), POKE(7, PLACE(0, WRITE, FOUR));
    go_on(PTRACE_CONT), stopped();
    peek(0), peek(7), peek(6);
    finish();
}

/* --- descriptors ---------------------------------------------------------------------------------------------------*/

static void nothing(void) { }

static void show_desc(const struct user_desc *d)
{
    printf("%d %x %x: 32 %d, contents %d, ro %d, pages %d, absent %d, useable %d\n", d->entry_number, d->base_addr, d->limit,
           d->seg_32bit, d->contents, d->read_exec_only, d->limit_in_pages, d->seg_not_present, d->useable);
}

static void descriptors(void)
{
    printf("-- descriptors\n");
    struct user_desc desc = {0}, all[4];
    struct iovec iov = {all, sizeof all};
    child(nothing);
    P(PTRACE_GET_THREAD_AREA, 13, &desc), show_desc(&desc);
    P(PTRACE_GET_THREAD_AREA, 11, &desc), P(PTRACE_GET_THREAD_AREA, 15, &desc);
    P(PTRACE_GET_THREAD_AREA, 13, 16);
    desc = (struct user_desc){13, 0x1000, 0xfffff, 1, 0, 0, 1, 0, 1};
    P(PTRACE_SET_THREAD_AREA, 13, &desc);
    P(PTRACE_GET_THREAD_AREA, 13, &desc), show_desc(&desc);
    P(PTRACE_SET_THREAD_AREA, 15, &desc), P(PTRACE_SET_THREAD_AREA, 13, 16);
    desc.seg_32bit = 0;
    P(PTRACE_SET_THREAD_AREA, 13, &desc);
    desc = (struct user_desc){14, 0, 0, 0, 0, 1, 0, 1, 0};
    P(PTRACE_SET_THREAD_AREA, 13, &desc);
    P(PTRACE_GET_THREAD_AREA, 13, &desc), show_desc(&desc);
    P(PTRACE_GETREGSET, 0x200, &iov);
    printf("%d bytes\n", (int)iov.iov_len);
    all[1] = (struct user_desc){0, 0x2000, 0xff, 1, 0, 1, 0, 0, 0};
    iov.iov_len = 2 * sizeof *all;
    P(PTRACE_SETREGSET, 0x200, &iov);
    P(PTRACE_GET_THREAD_AREA, 13, &desc), show_desc(&desc);
    iov.iov_len = 20;
    P(PTRACE_SETREGSET, 0x200, &iov);
    all[1].seg_32bit = 0, iov.iov_len = 2 * sizeof *all;
    P(PTRACE_SETREGSET, 0x200, &iov);
    finish();
}

/* --- signals that wait ---------------------------------------------------------------------------------------------*/

static void peeks(void)
{
    printf("-- signals that wait\n");
    struct { unsigned long long from; unsigned flags; int number; } arguments = {0, 0, 10};
    siginfo_t infos[10];
    sigset_t set;
    if (!(pid = fork())) {
        sigemptyset(&set), sigaddset(&set, SIGUSR1), sigaddset(&set, SIGRTMIN), sigprocmask(SIG_BLOCK, &set, NULL);
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        syscall(SYS_tgkill, getpid(), getpid(), SIGUSR1);
        for (int n = 0; n < 3; n++)
            sigqueue(getpid(), SIGRTMIN, (union sigval){n + 40});
        raise(SIGSTOP);
        _exit(7);
    }
    stopped();
    P(0x4209, &arguments, infos);
    printf("%d code %d\n", infos[0].si_signo, infos[0].si_code);
    arguments.flags = 1;
    P(0x4209, &arguments, infos);
    for (int n = 0; n < 3; n++)
        printf("%d code %d value %d\n", infos[n].si_signo, infos[n].si_code, infos[n].si_value.sival_int);
    arguments.from = 2;
    P(0x4209, &arguments, infos), printf("value %d\n", infos[0].si_value.sival_int);
    arguments.from = 3;
    P(0x4209, &arguments, infos);
    arguments.from = 0, arguments.number = 2;
    P(0x4209, &arguments, infos);
    arguments.number = 0;
    P(0x4209, &arguments, infos);
    arguments.number = -1;
    P(0x4209, &arguments, infos);
    arguments.number = 2, arguments.flags = 2;
    P(0x4209, &arguments, infos);
    P(0x4209, 16, infos);
    arguments.flags = 1;
    P(0x4209, &arguments, 16);
    finish();
}

/* --- /proc/pid/mem -------------------------------------------------------------------------------------------------*/

static void memory(void)
{
    printf("-- /proc/pid/mem\n");
    char name[64], *pages = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(pages, 'p', 3 * 4096);
    mprotect(pages + 4096, 4096, PROT_NONE), munmap(pages + 2 * 4096, 4096);
    watched = 0x11223344;
    int release[2];
    pipe(release);
    if (!(pid = fork())) {
        read(release[0], name, 1);
        printf("the child has %x %c\n", watched, pages[0]);
        if (read(release[0], name, 1) == 1)
            execl("/proc/self/exe", "debugcalls", "sleep", NULL);
        _exit(1);
    }
    sprintf(name, "/proc/%d/mem", pid);
    struct stat status;
    R(stat(name, &status)), printf("%o\n", status.st_mode);
    int fd, own;
    R(((fd = open(name, O_RDWR)) >= 0));
    long long at = (unsigned long)&watched;
    R(pread64(fd, buffer, 4, at)), printf("%x\n", *(int *)buffer);
    R(pwrite64(fd, "\1\2\3\4", 4, at));
    R(pread64(fd, buffer, 10, (unsigned long)pages)), printf("%.4s\n", buffer);
    R(pread64(fd, buffer, 8192, (unsigned long)pages + 4000)), printf("%.4s\n", buffer);
    R(pread64(fd, buffer, 8192, (unsigned long)pages + 8000));
    R(pread64(fd, buffer, 10, (unsigned long)pages + 8192));
    R(pwrite64(fd, "abc", 3, (unsigned long)pages + 4096));
    R(pwrite64(fd, "abc", 3, (unsigned long)pages + 8191));
    R(pwrite64(fd, "abc", 3, (unsigned long)pages + 8192));
    R(pwrite64(fd, "q", 1, (unsigned long)pages));
    R(pwrite64(fd, "\x90", 1, (unsigned long)function)), R(pread64(fd, buffer, 1, (unsigned long)function));
    R(pread64(fd, buffer, 4, 16)), R(pread64(fd, buffer, 0, 16)), R(pread64(fd, buffer, 4, 0x100000000));
    R(pread64(fd, (void *)16, 4, at));
    errno = 0, printf("%llx %s\n", (long long)lseek64(fd, at, SEEK_SET) - at, errno ? strerrorname_np(errno) : "");
    R(read(fd, buffer, 2)), R(read(fd, buffer, 2)), printf("%x\n", *(short *)buffer);
    R(lseek64(fd, -4, SEEK_CUR) == at), R(lseek64(fd, 0, SEEK_END));
    R(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0) == MAP_FAILED), R(ftruncate(fd, 0));
    R(write(release[1], "x", 1));
    usleep(200000);
    R(((own = open("/proc/self/mem", O_RDONLY)) >= 0));
    R(pread64(own, buffer, 4, at)), printf("%x\n", *(int *)buffer);
    R(pwrite64(own, buffer, 4, at));
    R(((own = open("/proc/self/task/self/mem", O_RDONLY)) >= 0));
    R(write(release[1], "x", 1));
    usleep(300000);
    R(pread64(fd, buffer, 4, at)), R(pwrite64(fd, buffer, 4, at));
    close(release[1]), kill(pid, SIGKILL), ended(pid);
    R(pread64(fd, buffer, 4, at));
    R(open(name, O_RDONLY));
}

int main(int argc, char **argv)
{
    setbuf(stdout, NULL);
    if (argc > 1)
        for (;;)
            pause();
    if (getenv("SECOND")) {
        watched = 1;
        return 5;
    }
    refused();
    watches(WRITE, FOUR, &watched), watches(ACCESS, FOUR, &watched), watches(WRITE, ONE, &watched);
    watches(WRITE, TWO, bytes + 2), watches(ACCESS, ONE, bytes + 4), watches(EXECUTE, ONE, (void *)function);
    several(), changed(), inherited(), after_exec();
    descriptors(), peeks(), memory();
    return 0;
}
