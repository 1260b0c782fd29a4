/* File system calls, one line each: what was called, what it returned, the error. Run natively and as a guest. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static void show(const char *what, long result)
{
    if (result < 0)
        printf("%s = %s\n", what, strerrorname_np(errno));
    else
        printf("%s = %ld\n", what, result);
    fflush(stdout);
}

#define R(call) (errno = 0, show(#call, (long)(call)))

static char big[200000];
static char buffer[200000];

static void handler(int signal) { (void)signal; }

static void show_stat(const char *path)
{
    struct stat s;
    if (lstat(path, &s) < 0) {
        printf("stat %s: %s\n", path, strerrorname_np(errno));
        return;
    }
    printf("stat %s: mode %o size %ld links %ld uid %d gid %d times %d\n", path, s.st_mode,
           S_ISDIR(s.st_mode) ? 0L : (long)s.st_size, S_ISDIR(s.st_mode) ? 0L : (long)s.st_nlink, (int)s.st_uid,
           (int)s.st_gid, s.st_mtim.tv_sec > 900000000);
}

static void opening(void)
{
    R(open("f", O_RDWR | O_CREAT, 0666));
    R(write(3, "0123456789", 10));
    R(lseek(3, 0, SEEK_CUR));
    R(lseek(3, -3, SEEK_END));
    R(read(3, buffer, 10));
    R(lseek(3, -1, SEEK_SET));
    R(lseek(3, 0, 9));
    R(lseek(3, 100000, SEEK_SET));
    R(write(3, "x", 1));
    R(lseek(3, 0, SEEK_DATA));
    R(syscall(SYS__llseek, 3, 1, 0, buffer, SEEK_SET));
    R(syscall(SYS_lseek, 3, 0, SEEK_CUR));
    R(write(3, "", 1) + 0 * ftruncate(3, 0));
    R(open("f", O_RDWR | O_CREAT | O_EXCL, 0666));
    R(open("nothing", O_RDONLY));
    R(open("f/g", O_RDONLY));
    R(open("", O_RDONLY));
    R(open((char *)1, O_RDONLY));
    R(open(".", O_RDWR));
    R(open("f", O_DIRECTORY));
    R(close(3));
    R(close(3));
    R(close(-1));
    R(open("f", O_WRONLY | O_TRUNC));
    R(read(3, buffer, 1));
    R(write(3, "hello", 5));
    R(write(3, (char *)1, 5));
    R(write(3, NULL, 0));
    R(dup(3));
    R(dup2(3, 10));
    R(dup3(3, 3, 0));
    R(dup3(3, 11, O_CLOEXEC));
    R(fcntl(11, F_GETFD));
    R(fcntl(10, F_GETFD));
    R(fcntl(3, F_GETFL));
    R(fcntl(3, F_SETFL, O_APPEND | O_NONBLOCK | O_RDWR));
    R(fcntl(10, F_GETFL));
    R(fcntl(3, F_DUPFD, 20));
    R(fcntl(3, F_DUPFD_CLOEXEC, 20));
    R(fcntl(3, F_DUPFD, 1 << 30));
    R(fcntl(3, 999, 0));
    R(dup2(99, 3));
    R(syscall(SYS_close_range, 4, 50, 0));
    R(fcntl(10, F_GETFD));
    R(close(3));
    R(syscall(SYS_creat, "new", 0640));
    show_stat("new");
    R(close(3));
    R(umask(077));
    R(open("private", O_CREAT | O_WRONLY, 0666));
    R(umask(022));
    show_stat("private");
    R(close(3));
}

static void transfers(void)
{
    struct iovec iov[3] = {{"one ", 4}, {"two ", 4}, {"three", 5}};
    struct iovec into[2] = {{buffer, 3}, {buffer + 100, 100}};
    struct iovec bad[2] = {{"good", 4}, {(char *)1, 4}};
    struct iovec huge[2] = {{buffer, 0x80000000u}, {buffer, 1}};
    off_t offset = 2;
    loff_t in = 0, out = 3;
    R(open("v", O_RDWR | O_CREAT, 0600));
    R(writev(3, iov, 3));
    R(lseek(3, 0, SEEK_SET));
    R(readv(3, into, 2));
    printf("%.3s|%.10s\n", buffer, buffer + 100);
    R(writev(3, bad, 2));
    R(writev(3, bad + 1, 1));
    R(writev(3, huge, 2));
    R(writev(3, iov, 0));
    R(writev(3, iov, -1));
    R(writev(3, iov, 1025));
    R(pread(3, buffer, 5, 4));
    R(pread(3, buffer, 5, -1));
    R(pwrite(3, "TWO", 3, 4));
    R(preadv(3, into, 2, 4));
    R(pwritev(3, iov, 1, 1000));
    R(lseek(3, 0, SEEK_CUR));
    R(open("w", O_RDWR | O_CREAT, 0600));
    R(sendfile(4, 3, &offset, 6));
    printf("offset %ld\n", (long)offset);
    R(sendfile(4, 3, NULL, 1 << 20));
    R(lseek(3, 0, SEEK_CUR));
    R(copy_file_range(3, &in, 4, &out, 9, 0));
    printf("offsets %ld %ld\n", (long)in, (long)out);
    R(copy_file_range(3, &in, 3, &in, 9, 0));
    R(copy_file_range(3, &in, 3, NULL, 0, 1));
    R(fallocate(4, 0, 0, 5000));
    R(fallocate(4, FALLOC_FL_KEEP_SIZE, 0, 9000));
    R(fallocate(4, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 1, 3));
    R(fallocate(4, 0, -1, 3));
    R(fallocate(4, 0, 0, 0));
    R(fsync(4));
    R(fdatasync(4));
    R(posix_fadvise(4, 0, 0, 0));
    R(posix_fadvise(4, 0, 0, 77));
    show_stat("w");
    R(ftruncate(4, 3));
    R(ftruncate(4, -1));
    R(truncate("w", 8));
    R(truncate("nothing", 8));
    R(truncate(".", 8));
    R(pread(4, buffer, 100, 0));
    R(close(3));
    R(close(4));
    R(fsync(3));
}

static void names(void)
{
    char name[300];
    memset(name, 'n', sizeof name);
    name[256] = 0;
    R(mkdir("d", 0777));
    R(mkdir("d", 0777));
    R(mkdir("d/e", 03777));
    show_stat("d/e");
    R(mkdir("no/d", 0777));
    R(mkdir(name, 0777));
    R(mknod("d/fifo", S_IFIFO | 0644, 0));
    R(mknod("d/plain", S_IFREG | 0644, 0));
    R(mknod("d/zero", 0644, 0));
    R(mknod("d/device", S_IFCHR | 0644, 0x103));
    R(mknod("d/what", 0170000 | 0644, 0));
    R(symlink("e", "d/link"));
    R(symlink("", "d/empty"));
    R(symlink("loop", "loop"));
    R(open("loop", O_RDONLY));
    R(open("d/link", O_RDONLY | O_NOFOLLOW));
    R(readlink("d/link", buffer, 100));
    R(readlink("d/link", buffer, 0));
    R(readlink("d", buffer, 100));
    R(link("f", "d/hard"));
    show_stat("f");
    R(link("d", "d2"));
    R(link("f", "d/hard"));
    R(rename("d/hard", "f"));
    R(rename("d", "d/e/f"));
    R(rename("f", "d"));
    R(rename("d", "f"));
    R(rename("d/plain", "moved"));
    R(rename("d/e", "e"));
    R(syscall(SYS_renameat2, AT_FDCWD, "moved", AT_FDCWD, "f", 1));
    R(syscall(SYS_renameat2, AT_FDCWD, "moved", AT_FDCWD, "e", 2));
    R(syscall(SYS_renameat2, AT_FDCWD, "moved", AT_FDCWD, "e", 3));
    R(rmdir("d"));
    R(rmdir("f"));
    R(rmdir("."));
    R(unlink("d"));
    R(unlink("nothing"));
    R(rmdir("moved"));
    R(unlinkat(AT_FDCWD, "e", AT_REMOVEDIR));
    R(unlinkat(AT_FDCWD, "e", 0));
    R(unlinkat(AT_FDCWD, "d", 1));
    R(chdir("d"));
    R(chdir("../f"));
    R(open(".", O_RDONLY | O_DIRECTORY));
    R(chdir(".."));
    R(faccessat(3, "zero", R_OK, 0));
    R(openat(3, "zero", O_RDONLY));
    R(openat(4, "zero", O_RDONLY));
    R(openat(77, "zero", O_RDONLY));
    R(mkdirat(3, "sub", 0700));
    R(fstatat(3, "", (struct stat *)buffer, AT_EMPTY_PATH));
    R(fstatat(3, "", (struct stat *)buffer, 0));
    R(fchdir(4));
    R(fchdir(3));
    R(access("sub", F_OK));
    R(chdir(".."));
    R(close(3));
    R(close(4));
    R(syscall(SYS_chroot, "d"));
}

static int by_name(const void *a, const void *b) { return strcmp(*(char **)a, *(char **)b); }

static void directories(void)
{
    char *found[50];
    int n = 0, total = 0;
    struct linux_dirent64 { unsigned long long ino; long long off; unsigned short size; unsigned char type; char name[]; } *e;
    R(open("d", O_RDONLY | O_DIRECTORY));
    R(syscall(SYS_getdents64, 3, buffer, 10));
    while ((n = syscall(SYS_getdents64, 3, buffer, 90)) > 0)
        for (int at = 0; at < n; at += e->size) {
            e = (void *)(buffer + at);
            char line[300];
            sprintf(line, "%d %s", e->type, e->name);
            found[total++] = strdup(line);
        }
    qsort(found, total, sizeof *found, by_name);
    for (int i = 0; i < total; i++)
        puts(found[i]);
    R(syscall(SYS_getdents64, 3, buffer, 1000));
    R(lseek(3, 0, SEEK_SET));
    R(syscall(SYS_getdents, 3, buffer, 8));
    R(syscall(SYS_getdents, 3, buffer, 1000) > 0);
    R(read(3, buffer, 10));
    R(write(3, buffer, 10));
    R(close(3));
    R(open("f", O_RDONLY));
    R(syscall(SYS_getdents64, 3, buffer, 1000));
    R(close(3));
    R(mkdir("gone", 0700));
    R(chdir("gone"));
    R(rmdir("../gone"));
    R(syscall(SYS_getcwd, buffer, 1000));
    R(open("x", O_CREAT | O_RDWR, 0600));
    R(open(".", O_RDONLY));
    R(syscall(SYS_getdents64, 3, buffer, 1000));
    R(close(3));
    R(chdir(".."));
    R(syscall(SYS_getcwd, buffer, 2));
}

static void attributes(void)
{
    struct timespec times[2] = {{1000, 5}, {2000, 7}};
    struct timespec bad[2] = {{0, 1000000000}, {0, 0}};
    struct timespec omit[2] = {{0, UTIME_OMIT}, {0, UTIME_OMIT}};
    struct timeval seconds[2] = {{50, 6}, {70, 8}};
    struct timeval wrong[2] = {{50, 1000000}, {70, 8}};
    struct stat s;
    struct statx x;
    struct statfs fs;
    R(chmod("f", 06755));
    show_stat("f");
    R(chmod("nothing", 0755));
    R(chmod("f", 0644));
    R(fchmodat(AT_FDCWD, "f", 0600, 0));
    R(chown("f", -1, -1));
    R(chown("f", 0, -1));
    R(chown("f", 1000, 1000));
    R(syscall(SYS_chown, "f", 0xffff, 0xffff));
    R(lchown("d/link", 1000, -1));
    R(utimensat(AT_FDCWD, "f", times, 0));
    stat("f", &s);
    printf("%ld.%ld %ld.%ld\n", s.st_atim.tv_sec, s.st_atim.tv_nsec, s.st_mtim.tv_sec, s.st_mtim.tv_nsec);
    R(utimensat(AT_FDCWD, "f", bad, 0));
    R(utimensat(AT_FDCWD, "nothing", omit, 0));
    R(utimensat(AT_FDCWD, "nothing", NULL, 0));
    R(utimes("f", seconds));
    stat("f", &s);
    printf("%ld.%ld %ld.%ld\n", s.st_atim.tv_sec, s.st_atim.tv_nsec, s.st_mtim.tv_sec, s.st_mtim.tv_nsec);
    R(utimes("f", wrong));
    R(syscall(SYS_utime, "f", NULL));
    R(access("f", R_OK | W_OK));
    R(access("f", X_OK));
    R(access("f", 8));
    R(access("/", W_OK) * 0 + access("nothing", F_OK));
    R(syscall(SYS_faccessat2, AT_FDCWD, "f", R_OK, 0x8000));
    R(statx(AT_FDCWD, "f", 0, STATX_BASIC_STATS, &x));
    printf("statx %o %d %d %x\n", x.stx_mode, (int)x.stx_size, (int)x.stx_nlink, x.stx_mask & STATX_BASIC_STATS);
    R(statx(AT_FDCWD, "f", 0, 0x80000000, &x));
    R(syscall(SYS_statx, AT_FDCWD, "f", 0x40, 0, &x));
    R(statfs(".", &fs));
    R(syscall(SYS_statfs64, ".", 80, buffer));
    R(syscall(SYS_statfs, "nothing", buffer));
    R(syscall(SYS_fstat, 1, buffer));
    R(syscall(SYS_fstat64, 99, buffer));
    R(syscall(SYS_stat64, "f", 4));
    R(open("f", O_PATH));
    R(read(3, buffer, 1));
    R(fchmod(3, 0644));
    R(fstat(3, &s));
    R(fcntl(3, F_GETFL));
    R(close(3));
    R(chmod("private", 0));
    R(open("private", O_RDONLY));
    R(open("private", O_WRONLY));
    R(access("private", R_OK));
    R(mkdir("closed", 0700));
    R(mkdir("closed/in", 0700));
    R(chmod("closed", 0600));
    R(open("closed/in", O_RDONLY));
    R(mkdir("closed/new", 0700));
    R(chmod("closed", 0500));
    R(mkdir("closed/new", 0700));
    R(rmdir("closed/in"));
    R(rename("closed/in", "in"));
    R(open("closed/in", O_RDONLY) > 0);
    R(close(3));
}

static void locks(void)
{
    struct flock lock = {F_WRLCK, SEEK_SET, 10, 20, 0};
    struct flock whole = {F_RDLCK, SEEK_SET, 0, 0, 0};
    struct flock wrong = {F_RDLCK, SEEK_SET, -1, 0, 0};
    struct flock far = {F_RDLCK, 7, 0, 0, 0};
    int status, other;
    R(open("f", O_RDWR));
    R(fcntl(3, F_SETLK, &lock));
    R(fcntl(3, F_SETLK, &wrong));
    R(fcntl(3, F_SETLK, &far));
    R(fcntl(3, F_GETLK, &lock));
    printf("type %d\n", lock.l_type);
    R(open("f", O_RDWR));
    R(flock(3, LOCK_EX));
    R(flock(4, LOCK_SH | LOCK_NB));
    R(flock(3, LOCK_SH));
    R(flock(4, LOCK_SH | LOCK_NB));
    R(flock(3, 77));
    fflush(stdout);
    other = fork();
    if (!other) {
        R(fcntl(3, F_SETLK, &whole));
        whole.l_start = 5;
        R(fcntl(3, F_GETLK, &whole));
        printf("type %d start %ld len %ld whence %d mine %d\n", whole.l_type, (long)whole.l_start, (long)whole.l_len,
               whole.l_whence, whole.l_pid == getppid());
        lock.l_type = F_RDLCK, lock.l_start = 30, lock.l_len = 5;
        R(fcntl(3, F_SETLK, &lock));
        lock.l_type = F_WRLCK, lock.l_start = 0, lock.l_len = 100;
        R(fcntl(3, F_SETLKW, &lock));
        fflush(stdout);
        _exit(7);
    }
    usleep(100000);
    lock.l_type = F_UNLCK, lock.l_start = 0, lock.l_len = 0;
    R(fcntl(4, F_SETLK, &lock));
    R(waitpid(other, &status, 0) == other);
    R(WEXITSTATUS(status));
    R(close(4));
    R(close(3));
}

static void pipes(void)
{
    int p[2], n = 0;
    struct pollfd fds[3];
    struct iovec iov[2] = {{big, 60000}, {big, 60000}};
    fd_set set;
    struct timeval soon = {0, 1000};
    signal(SIGPIPE, SIG_IGN);
    R(pipe(p));
    R(pipe2(p, 077));
    R(pipe2((int *)1, 0));
    R(fcntl(3, F_GETFL));
    R(fcntl(4, F_GETPIPE_SZ));
    R(fcntl(4, F_SETPIPE_SZ, 5000));
    R(fcntl(4, F_SETPIPE_SZ, 65536));
    R(lseek(3, 0, SEEK_SET));
    R(pread(3, buffer, 1, 0));
    R(read(4, buffer, 1));
    R(write(3, buffer, 1));
    R(fcntl(4, F_SETFL, O_NONBLOCK));
    R(fcntl(3, F_SETFL, O_NONBLOCK));
    R(read(3, buffer, 1));
    R(writev(4, iov, 2));
    R(write(4, big, 1));
    R(ioctl(3, FIONREAD, &n));
    printf("%d\n", n);
    R(read(3, buffer, sizeof buffer));
    fds[0] = (struct pollfd){3, POLLIN, 0}, fds[1] = (struct pollfd){4, POLLOUT, 0}, fds[2] = (struct pollfd){-1, 0, 9};
    R(poll(fds, 3, 0));
    printf("%x %x %x\n", fds[0].revents, fds[1].revents, fds[2].revents);
    fds[2].fd = 99;
    R(poll(fds, 3, 0));
    printf("%x %x %x\n", fds[0].revents, fds[1].revents, fds[2].revents);
    R(poll(fds, 1, 5));
    R(poll((struct pollfd *)1, 1, 5));
    R(poll(NULL, 0, 1));
    FD_ZERO(&set);
    FD_SET(3, &set);
    R(select(4, &set, NULL, NULL, &soon));
    FD_SET(3, &set);
    FD_SET(50, &set);
    R(select(60, &set, NULL, NULL, &soon));
    R(select(-1, &set, NULL, NULL, &soon));
    R(write(4, "data", 4));
    FD_ZERO(&set);
    FD_SET(3, &set);
    R(select(4, &set, NULL, NULL, NULL));
    R(FD_ISSET(3, &set));
    R(fcntl(4, F_SETFL, 0));
    R(read(3, (char *)1, 4));
    R(read(3, buffer, 4));
    R(close(4));
    R(read(3, buffer, 4));
    R(poll(fds, 1, -1));
    printf("%x\n", fds[0].revents);
    R(close(3));
    R(pipe(p));
    R(close(3));
    R(write(4, "x", 1));
    R(close(4));
    R(ioctl(0, TIOCGWINSZ, buffer));
    R(isatty(0));
    R(open("d/fifo", O_WRONLY | O_NONBLOCK));
    R(open("d/fifo", O_RDONLY | O_NONBLOCK));
    R(read(3, buffer, 1));
    R(open("d/fifo", O_WRONLY | O_NONBLOCK));
    R(read(3, buffer, 1));
    R(write(4, "fifo", 4));
    R(read(3, buffer, 10));
    R(close(4));
    R(read(3, buffer, 10));
    R(close(3));
    signal(SIGPIPE, SIG_DFL);
}

static void blocking(void)
{
    int p[2], status;
    struct itimerval soon = {{0, 0}, {0, 50000}};
    struct sigaction action = {.sa_handler = handler};
    struct iovec iov[2] = {{big, 60000}, {big, 60000}};
    struct pollfd fd;
    sigset_t all;
    struct timespec tenth = {0, 100000000};
    sigaction(SIGALRM, &action, NULL);
    pipe(p);
    setitimer(ITIMER_REAL, &soon, NULL);
    R(read(p[0], buffer, 10));
    setitimer(ITIMER_REAL, &soon, NULL);
    R(writev(p[1], iov, 2));
    setitimer(ITIMER_REAL, &soon, NULL);
    R(write(p[1], big, 10));
    fd = (struct pollfd){p[1], POLLOUT, 0};
    setitimer(ITIMER_REAL, &soon, NULL);
    R(poll(&fd, 1, -1));
    sigfillset(&all);
    setitimer(ITIMER_REAL, &soon, NULL);
    R(ppoll(&fd, 1, &tenth, &all));
    setitimer(ITIMER_REAL, &soon, NULL);
    R(pselect(0, NULL, NULL, NULL, &tenth, NULL));
    fflush(stdout);
    if (!fork()) {
        close(p[1]);
        int n, total = 0;
        while ((n = read(p[0], buffer, 1000)) > 0)
            total += n;
        printf("child read %d\n", total);
        fflush(stdout);
        _exit(0);
    }
    close(p[0]);
    R(write(p[1], big, sizeof big));
    close(p[1]);
    R(wait(&status) > 0);
    fflush(stdout);
    if (!fork()) {
        _exit(open("d/fifo", O_WRONLY) != 3 || write(3, "through", 7) != 7);
    }
    R(open("d/fifo", O_RDONLY));
    R(read(3, buffer, 100));
    R(wait(&status) > 0);
    R(read(3, buffer, 100));
    R(close(3));
}

static void devices(void)
{
    R(open("/dev/null", O_RDWR));
    R(read(3, buffer, 10));
    R(write(3, big, 100000));
    R(lseek(3, 77, SEEK_SET));
    R(close(3));
    R(open("/dev/zero", O_RDWR));
    memset(buffer, 1, 100);
    R(read(3, buffer, 100));
    R(buffer[0] + buffer[99]);
    R(close(3));
    R(open("/dev/full", O_RDWR));
    R(write(3, big, 10));
    R(close(3));
    R(open("/dev/urandom", O_RDONLY));
    R(read(3, buffer, 100));
    R(close(3));
    R(readlink("/proc/self/fd/77", buffer, 100));
    R(open("/proc/self/status", O_RDONLY));
    R(read(3, buffer, 5));
    R(close(3));
    R(syscall(SYS_memfd_create, "m", 0));
    R(write(3, "x", 1));
    R(close(3));
    R(getxattr("f", "user.x", buffer, 10));
}

int main(int argc, char **argv)
{
    if (getuid() == 0 && (setgroups(0, NULL) || setgid(1000) || setuid(1000)))
        return 1;
    umask(022);
    opening();
    transfers();
    names();
    directories();
    attributes();
    locks();
    pipes();
    blocking();
    devices();
    return 0;
}
