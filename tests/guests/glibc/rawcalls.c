/* System calls with odd arguments, one by one: which error comes first, what a bad buffer leaves, which flags are taken. */
#include "calls.h"
#include <linux/futex.h>
#include <sys/sendfile.h>
#include <sys/xattr.h>

#define S(number, ...) (errno = 0, show(#number " " #__VA_ARGS__, syscall(SYS_##number, ##__VA_ARGS__)))

static char *edge;  /* the last four bytes before memory that nobody may touch */
static char *none;  /* memory that nobody may touch */
static char *fixed; /* memory that cannot be written */
static int file, directory, pipes[2];

static void prepare(void)
{
    edge = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(edge + 4096, 4096, PROT_NONE);
    none = edge + 4096;
    edge += 4092;
    fixed = mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mkdir("d", 0700);
    mkdir("d/e", 0700);
    symlink("d", "link");
    symlink("loop", "loop");
    symlink("nowhere", "dangling");
    file = open("f", O_RDWR | O_CREAT, 0600);
    write(file, "0123456789", 10);
    directory = open("d", O_RDONLY | O_DIRECTORY);
    pipe2(pipes, O_NONBLOCK);
    errno = 0;
}

static void reading(void)
{
    lseek(file, 0, SEEK_SET);
    S(read, file, edge, 10);
    S(lseek, file, 0, SEEK_CUR);
    S(read, file, none, 10);
    S(read, file, none, 0);
    S(read, file, fixed, 4);
    S(read, -1, none, 0);
    S(read, directory, buffer, 10);
    S(read, directory, none, 10);
    S(read, pipes[1], buffer, 1);
    S(read, 99, buffer, -1);
    S(pread64, file, edge, 10, 2, 0);
    S(pread64, file, buffer, 10, -1, -1);
    S(pread64, 99, buffer, 10, -1, -1);
    S(pread64, pipes[0], buffer, 1, 0, 0);
    S(pread64, file, buffer, 10, 100, 0);
    S(write, file, none, 0);
    S(write, file, none, 1);
    S(pwrite64, file, edge, 10, 20, 0);
    S(lseek, file, 0, SEEK_END);
    S(write, pipes[1], edge, 10);
    S(write, pipes[0], edge, 1);
    S(write, pipes[1], none, 1);
    S(write, directory, buffer, 1);
    S(read, pipes[0], buffer, 100);
    write(pipes[1], "abcdefgh", 8);
    S(read, pipes[0], edge, 8);
    S(read, pipes[0], buffer, 8);
    S(read, file, buffer, 0x80000000u);
    S(lseek, file, -1, SEEK_SET);
    S(lseek, file, 0, 9);
    S(lseek, pipes[0], 0, SEEK_CUR);
    S(lseek, 99, 0, 9);
    S(_llseek, file, 1, 0, none, SEEK_SET);
    S(lseek, file, 0, SEEK_CUR);
    S(_llseek, file, 0, 5, buffer, SEEK_SET);
    S(_llseek, file, -1, 0, buffer, SEEK_SET);
}

static void vectors(void)
{
    struct iovec v[3] = {{buffer, 4}, {none, 4}, {buffer + 8, 4}}, w[2] = {{buffer, 4}, {buffer, -1}};
    struct iovec gap[3] = {{buffer, 3}, {none, 0}, {buffer + 3, 3}};
    lseek(file, 0, SEEK_SET);
    S(readv, file, v, 3);
    S(readv, file, v + 1, 1);
    S(readv, file, gap, 3);
    S(readv, file, w, 2);
    S(readv, file, v, 1025);
    S(readv, file, v, -1);
    S(readv, file, v, 0);
    S(readv, file, none, 1);
    S(readv, 99, none, 1);
    S(writev, pipes[1], v, 3);
    S(writev, pipes[1], v, 0);
    S(writev, pipes[1], w, 2);
    S(writev, pipes[0], none, 1);
    S(read, pipes[0], buffer, 100);
    S(preadv, file, v, 1, -1, -1);
    S(pwritev, file, v, 1, 0, -1);
    S(preadv2, file, v, 1, 0, 0, 0x4000);
    S(preadv2, file, v, 1, -1, -1, 0);
}

static void opening(void)
{
    S(open, "", O_RDONLY);
    S(open, none, O_RDONLY);
    S(open, "f/", O_RDONLY);
    S(open, "f/x", O_RDONLY);
    S(open, "new/", O_CREAT | O_RDWR, 0600);
    S(open, "d", O_CREAT, 0600);
    S(open, "d", O_WRONLY);
    S(open, "d", O_RDONLY | O_TRUNC);
    S(open, "d", O_CREAT | O_EXCL, 0600);
    S(open, "d", O_CREAT | O_DIRECTORY | O_EXCL, 0600);
    S(open, "f", O_DIRECTORY);
    S(open, "link", O_NOFOLLOW);
    S(open, "link", O_NOFOLLOW | O_DIRECTORY);
    S(open, "link/", O_NOFOLLOW | O_DIRECTORY);
    S(open, "loop", O_RDONLY);
    S(open, "loop", O_CREAT | O_EXCL, 0600);
    S(open, "dangling", O_CREAT | O_EXCL, 0600);
    S(open, "dangling/", O_CREAT, 0600);
    S(open, ".", O_CREAT, 0600);
    S(open, "..", O_CREAT | O_EXCL, 0600);
    S(open, "/", O_WRONLY);
    S(open, "f", 3);
    S(openat, 99, "f", O_RDONLY);
    S(openat, file, "f", O_RDONLY);
    S(openat, file, "", O_RDONLY);
    S(openat, 99, "/tmp/nothing", O_RDONLY);
    S(openat, AT_FDCWD, "d", O_TMPFILE, 0600);
    S(openat, AT_FDCWD, "f", O_TMPFILE | O_RDWR, 0600);
    S(openat, AT_FDCWD, "d", O_PATH | O_CREAT | O_RDWR, 0600);
    S(close, 13);
    S(close, -1);
    S(creat, "d", 0600);
}

static void names(void)
{
    memset(big, 'x', 5000);
    big[256] = 0;
    S(stat64, big, buffer);
    S(mkdir, big, 0700);
    big[256] = 'x';
    big[4095] = 0;
    S(stat64, big, buffer);
    big[4095] = 'x';
    big[4096] = 0;
    S(stat64, big, buffer);
    S(mkdir, "d", 0700);
    S(mkdir, "f", 0700);
    S(mkdir, "f/g", 0700);
    S(mkdir, "dangling", 0700);
    S(mkdir, "", 0700);
    S(mkdir, "/", 0700);
    S(mkdir, "d/.", 0700);
    S(mkdir, "d/..", 0700);
    S(mkdir, "no/such", 0700);
    S(mkdir, "n//", 0700);
    S(rmdir, "n/.");
    S(rmdir, "n/..");
    S(rmdir, "n/");
    S(rmdir, "d");
    S(rmdir, "f");
    S(rmdir, "link");
    S(rmdir, "link/");
    S(rmdir, "/");
    S(rmdir, ".");
    S(unlink, "d");
    S(unlink, "d/");
    S(unlink, "f/");
    S(unlink, "link/");
    S(unlink, ".");
    S(unlink, "/");
    S(unlink, "");
    S(unlinkat, AT_FDCWD, "f", AT_REMOVEDIR);
    S(unlinkat, AT_FDCWD, "f", 1);
    S(unlinkat, 99, "f", 0);
    S(link, "d", "d2");
    S(link, "f", "d");
    S(link, "f", "d/");
    S(link, "f", "g/");
    S(link, "nothing", "d");
    S(link, "f", "f");
    S(linkat, AT_FDCWD, "f", AT_FDCWD, "g", 1);
    S(linkat, AT_FDCWD, "dangling", AT_FDCWD, "g", AT_SYMLINK_FOLLOW);
    S(linkat, AT_FDCWD, "dangling", AT_FDCWD, "g", 0);
    S(unlink, "g");
    S(symlink, "", "s");
    S(symlink, "x", "f");
    S(symlink, "x", "s/");
    S(symlink, "x", "d/");
    S(readlink, "f", buffer, 10);
    S(readlink, "link", buffer, 0);
    S(readlink, "link", buffer, -1);
    S(readlink, "link", none, 10);
    S(readlink, "link", buffer, 1);
    S(readlink, "link/", buffer, 10);
    S(readlink, "nothing", buffer, 0);
    S(readlinkat, directory, "", buffer, 10);
}

static void renaming(void)
{
    S(rename, "f", "f");
    S(rename, "f", "d");
    S(rename, "d", "f");
    S(rename, "d", "d/e/x");
    S(rename, "d", "d/e");
    S(rename, "d/e", "d");
    S(rename, "nothing", "d");
    S(rename, "f", "f/");
    S(rename, "f", "new/");
    S(rename, "f/", "new");
    S(rename, "d/", "d3/");
    S(rename, "d3", "d/");
    S(rename, "d/.", "x");
    S(rename, "d", "x/.");
    S(rename, ".", "x");
    S(rename, "/", "x");
    S(rename, "d", "/");
    S(rename, "", "x");
    S(rename, "f", "");
    S(rename, "link", "link2");
    S(rename, "link2/", "link3");
    S(rename, "link2", "link");
    S(renameat2, AT_FDCWD, "f", AT_FDCWD, "d", 1);
    S(renameat2, AT_FDCWD, "f", AT_FDCWD, "nothing", 2);
    S(renameat2, AT_FDCWD, "f", AT_FDCWD, "d", 3);
    S(renameat2, AT_FDCWD, "f", AT_FDCWD, "d", 2);
    S(renameat2, AT_FDCWD, "f", AT_FDCWD, "d", 2);
    S(renameat2, AT_FDCWD, "d", AT_FDCWD, "d/e", 2);
    S(renameat2, AT_FDCWD, "f", AT_FDCWD, "d", 8);
}

static void attributes(void)
{
    struct timespec times[2] = {{1, UTIME_OMIT}, {2, UTIME_OMIT}}, bad[2] = {{1, 1000000000}, {1, 0}};
    S(stat64, "f", none);
    S(stat64, "nothing", none);
    S(fstat64, 99, none);
    S(fstat64, file, edge);
    S(lstat64, "link/", buffer);
    S(lstat64, "f/", buffer);
    S(fstatat64, AT_FDCWD, "", buffer, 0);
    S(fstatat64, AT_FDCWD, "", buffer, AT_EMPTY_PATH);
    S(fstatat64, 99, "", buffer, AT_EMPTY_PATH);
    S(fstatat64, AT_FDCWD, "f", buffer, 1);
    S(fstatat64, 99, "/", buffer, 0);
    S(statx, AT_FDCWD, "f", 0, 0x80000000u, buffer);
    S(statx, AT_FDCWD, "f", 0x6000, 0, buffer);
    S(statx, AT_FDCWD, "nothing", 0, 0, none);
    S(statx, AT_FDCWD, "f", 0, 0, none);
    S(access, "f", 8);
    S(access, "nothing", 8);
    S(access, "dangling", 0);
    S(faccessat2, AT_FDCWD, "dangling", 0, AT_SYMLINK_NOFOLLOW);
    S(faccessat2, AT_FDCWD, "", 0, AT_EMPTY_PATH);
    S(faccessat2, AT_FDCWD, "f", 0, 1);
    S(chmod, "nothing", 0);
    S(chmod, "dangling", 0);
    S(fchmod, 99, 0);
    S(fchmodat, 99, "f", 0600);
    S(chown32, "nothing", -1, -1);
    S(chown32, "f", -1, -1);
    S(fchownat, AT_FDCWD, "f", -1, -1, 1);
    S(fchownat, directory, "", -1, -1, AT_EMPTY_PATH);
    S(utimensat, AT_FDCWD, "nothing", times, 0);
    S(utimensat, AT_FDCWD, "f", bad, 0);
    S(utimensat, AT_FDCWD, "nothing", bad, 0);
    S(utimensat, AT_FDCWD, "f", none, 0);
    S(utimensat, AT_FDCWD, 0, 0, 0);
    S(utimensat, file, 0, 0, 0);
    S(utimensat, file, 0, 0, AT_SYMLINK_NOFOLLOW);
    S(utimensat, AT_FDCWD, "f", 0, 1);
    S(utime, "f", none);
    S(truncate, "d", 0);
    S(truncate, "f", -1);
    S(truncate, "nothing", -1);
    S(truncate64, "f", 0, -1);
    S(ftruncate, directory, 0);
    S(ftruncate, pipes[0], 0);
    S(ftruncate, file, -1);
    S(ftruncate, 99, -1);
    S(fallocate, file, 0, 0, 0, 0, 0);
    S(fallocate, file, 0, -1, -1, 1, 0);
    S(fallocate, file, 0x100, 0, 0, 1, 0);
    S(fallocate, file, 2, 0, 0, 1, 0);
    S(fallocate, pipes[1], 0, 0, 0, 1, 0);
    S(fallocate, directory, 0, 0, 0, 1, 0);
    S(fsync, pipes[0]);
    S(fsync, directory);
    S(fdatasync, 99);
    S(flock, file, 0);
    S(flock, file, LOCK_SH | LOCK_EX);
    S(umask, 07777);
    S(umask, 022);
    S(statfs64, "f", 83, buffer);
    S(statfs64, "nothing", 84, buffer);
    S(statfs, "nothing", none);
    S(fstatfs, 99, none);
}

static void descriptors(void)
{
    struct flock lock = {F_RDLCK, 9, 0, 0, 0}, odd = {7, SEEK_SET, 0, 0, 0}, low = {F_RDLCK, SEEK_SET, -5, 0, 0};
    S(dup, 99);
    S(dup2, 99, 5);
    S(dup2, file, file);
    S(dup2, file, -1);
    S(dup2, file, 1 << 30);
    S(dup3, file, file, 0);
    S(dup3, file, 20, 1);
    S(dup3, 99, 99, 0);
    S(dup3, file, -1, 0);
    S(fcntl64, 99, F_GETFD);
    S(fcntl64, file, 999);
    S(fcntl64, file, F_DUPFD, -1);
    S(fcntl64, file, F_SETFD, 0xff);
    S(fcntl64, file, F_GETFD);
    S(fcntl64, file, F_SETLK, none);
    S(fcntl64, file, F_SETLK, &lock);
    S(fcntl64, file, F_SETLK, &odd);
    S(fcntl64, file, F_SETLK, &low);
    S(fcntl64, file, F_GETLK, &odd);
    S(fcntl64, pipes[0], F_GETPIPE_SZ);
    S(fcntl64, file, F_GETPIPE_SZ);
    S(fcntl64, pipes[0], F_SETPIPE_SZ, 1);
    S(fcntl64, pipes[0], F_SETPIPE_SZ, -1);
    S(fcntl64, pipes[0], F_SETPIPE_SZ, 65536);
    S(pipe, none);
    S(pipe2, none, 1);
    S(pipe2, buffer, 1);
    S(pipe2, fixed, 0);
    S(dup, file);
    S(close, 9);
    S(ioctl, 99, 0x5401, buffer);
    S(ioctl, file, 0x5401, buffer);
    S(ioctl, pipes[0], 0x541B, buffer);
    S(ioctl, pipes[0], 0x541B, none);
    S(ioctl, file, 0x541B, buffer);
    S(ioctl, file, 0x5451);
    S(fcntl64, file, F_GETFD);
    S(ioctl, file, 0x5450);
    S(ioctl, file, 0x5421, none);
    S(getdents64, directory, buffer, 1);
    S(getdents64, directory, buffer, 0);
    S(getdents64, directory, none, 100);
    S(getdents64, file, buffer, 100);
    S(getdents64, 99, buffer, 100);
    S(getdents, directory, buffer, 8);
    S(sendfile, pipes[1], file, 0, 0);
    S(sendfile, pipes[1], file, none, 1);
    S(sendfile, file, pipes[0], 0, 1);
    S(sendfile, pipes[1], directory, 0, 1);
    S(sendfile, 99, file, 0, 1);
    S(sendfile, pipes[0], file, 0, 1);
    S(copy_file_range, file, 0, file, 0, 4, 1);
    S(copy_file_range, file, 0, pipes[1], 0, 4, 0);
    S(copy_file_range, directory, 0, file, 0, 4, 0);
    S(copy_file_range, file, 0, 99, 0, 4, 1);
    S(close_range, 5, 4, 0);
    S(close_range, 50, 60, 0);
    S(close_range, 50, 60, 8);
}

static void places(void)
{
    S(chdir, "f");
    S(chdir, "nothing");
    S(chdir, "");
    S(chdir, none);
    S(fchdir, file);
    S(fchdir, 99);
    S(getcwd, none, 100);
    S(getcwd, buffer, 0);
    S(getcwd, buffer, 1);
    S(getcwd, none, 1);
    S(chroot, "f");
    S(chroot, "nothing");
}

static void polling(void)
{
    struct pollfd fds[3] = {{-1, POLLIN, 7}, {99, POLLIN, 0}, {pipes[1], POLLOUT | POLLIN, 0}};
    struct timespec odd = {-1, 0}, much = {0, 1000000000}, now = {0, 0};
    struct timeval wrong = {-1, 0}, us = {0, 1000000};
    S(poll, fds, 3, 0);
    printf("%x %x %x\n", fds[0].revents, fds[1].revents, fds[2].revents);
    S(poll, none, 1, 0);
    S(poll, none, 0, 0);
    S(poll, fds, 100000000, 0);
    S(ppoll, fds, 1, &odd, 0, 8);
    S(ppoll, fds, 1, &much, 0, 8);
    S(ppoll, fds, 1, &now, buffer, 4);
    S(ppoll, fds, 1, none, 0, 8);
    S(ppoll, fds, 1, &now, none, 8);
    memset(buffer, 0, 200);
    S(_newselect, -1, 0, 0, 0, &wrong);
    S(_newselect, 0, 0, 0, 0, &wrong);
    S(_newselect, 0, none, none, none, &us);
    S(_newselect, 1, none, 0, 0, &us);
    buffer[5] = 8;
    S(_newselect, 60, buffer, 0, 0, &us);
    S(pselect6, 0, 0, 0, 0, &much, 0);
    S(pselect6, 0, 0, 0, 0, &now, none);
}

static void memory(void)
{
    char *two = mmap(0, 3 * 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(two + 4096, 4096);
    S(mprotect, two, 3 * 4096, PROT_READ | PROT_WRITE);
    *two = 1;
    S(mprotect, two + 1, 4096, 0);
    S(mprotect, two, 0, 99);
    S(mprotect, two, 4096, 0x80);
    S(mprotect, two, 0xffffffff, 0);
    S(mprotect, two + 4096, 4096, 0x80);
    S(munmap, two, 0);
    S(munmap, two + 1, 4096);
    S(munmap, two + 4096, 4096);
    S(munmap, 0xfffff000, 8192);
    S(madvise, two, 3 * 4096, MADV_DONTNEED);
    S(madvise, two, 3 * 4096, MADV_FREE);
    S(madvise, two, 3 * 4096, 1234);
    S(madvise, two + 1, 4096, MADV_DONTNEED);
    S(madvise, two, 0, MADV_DONTNEED);
    S(madvise, two, -4096, MADV_DONTNEED);
    S(msync, two, 3 * 4096, MS_SYNC);
    S(msync, two, 4096, MS_SYNC | MS_ASYNC);
    S(msync, two, 0, 0);
    S(msync, two + 1, 4096, MS_SYNC);
    S(mincore, two, 3 * 4096, buffer);
    S(mincore, two, 4096, none);
    S(mincore, two + 1, 4096, buffer);
    S(mincore, two, 0, none);
    S(mremap, two, 4096, 0, 0, 0);
    S(mremap, two + 1, 4096, 4096, 0, 0);
    S(mremap, two, 4096, 4096, 8, 0);
    S(mremap, two, 4096, 4096, 2, two);
    S(mremap, two, 4096, 4096, 3, two);
    S(mremap, two, 3 * 4096, 4 * 4096, 1, 0);
    S(mremap, two + 4096, 4096, 8192, 1, 0);
    S(mremap, two, 0, 4096, 1, 0);
    S(mmap2, 0, 0, 0, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    S(mmap2, 0, 4096, 0, MAP_ANONYMOUS, -1, 0);
    S(mmap2, 0, 4096, 0, MAP_PRIVATE, -1, 0);
    S(mmap2, 0, 4096, 0, MAP_PRIVATE, 99, 0);
    S(mmap2, 0, 0, 0, MAP_PRIVATE, 99, 0);
    S(mmap2, 0, 4096, 0, MAP_PRIVATE, pipes[0], 0);
    S(mmap2, 0, 4096, 0, MAP_PRIVATE, directory, 0);
    S(mmap2, two + 1, 4096, 0, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    S(mmap2, two, 4096, 0, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    S(mmap2, 0xfffff000, 8192, 0, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    S(mmap2, 0, 0xfffff000, 0, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    S(mmap2, 0, 4096, PROT_WRITE, MAP_SHARED, open("f", O_RDONLY), 0);
    S(mmap2, 0, 4096, PROT_READ, MAP_PRIVATE, open("f", O_WRONLY), 0);
    S(mlock, two, -1);
    S(munlock, two, 3 * 4096);
    S(mlockall, 0);
    S(mlockall, 8);
}

static void identity(void)
{
    S(setpgid, -1, 0);
    S(setpgid, 0, -1);
    S(setpgid, 99999, 0);
    S(getpgid, 99999);
    S(getpgid, -1);
    S(getsid, 99999);
    S(kill, 0x7fffffff, 0);
    S(kill, getpid(), 65);
    S(kill, getpid(), -1);
    S(kill, getpid(), 0);
    S(tgkill, -1, getpid(), 0);
    S(tgkill, getpid(), 0, 0);
    S(tgkill, getpid(), getpid(), 65);
    S(tgkill, getpid() + 1000, getpid(), 0);
    S(tkill, -1, 0);
    S(wait4, -1, 0, 0, 0);
    S(wait4, -1, 0, 0x100, 0);
    S(wait4, 99999, 0, WNOHANG, 0);
    S(wait4, 0x80000000, 0, 0, 0);
    S(waitid, P_PID, 0, 0, WEXITED, 0);
    S(waitid, P_ALL, 0, 0, 0, 0);
    S(waitid, 9, 0, 0, WEXITED, 0);
    S(waitid, P_PID, 99999, 0, WEXITED | WNOHANG, 0);
    S(getpriority, 9, 0);
    S(getpriority, 0, 99999);
    S(setpriority, 9, 0, 0);
    S(getrlimit, 99, buffer);
    S(ugetrlimit, 99, none);
    S(ugetrlimit, 3, none);
    S(prlimit64, 99999, 3, 0, buffer);
    S(prlimit64, 0, 99, 0, 0);
    S(prlimit64, 0, 3, none, 0);
    S(getrusage, 5, buffer);
    S(getrusage, 0, none);
    S(getgroups32, -1, buffer);
    S(getresuid32, none, buffer, buffer);
    S(uname, none);
    S(sysinfo, none);
    S(times, none);
    S(prctl, 9999, 0, 0, 0, 0);
    S(prctl, 15, none, 0, 0, 0);
    S(prctl, 1, 65, 0, 0, 0);
    S(prctl, 38, 0, 0, 0, 0);
    S(personality, 0xffffffff);
    S(sched_getaffinity, 0, 1, buffer);
    S(sched_getaffinity, 99999, 128, buffer);
    S(sched_getscheduler, -1);
    S(sched_getparam, 0, none);
    S(sched_get_priority_max, 9);
    S(sched_get_priority_min, 1);
    S(set_robust_list, buffer, 4);
    S(get_robust_list, 99999, buffer, buffer);
    S(getcpu, none, 0, 0);
}

static void signals(void)
{
    S(rt_sigaction, 0, 0, buffer, 8);
    S(rt_sigaction, 65, 0, buffer, 8);
    S(rt_sigaction, 9, 0, buffer, 8);
    S(rt_sigaction, 9, buffer, 0, 8);
    S(rt_sigaction, 10, 0, buffer, 4);
    S(rt_sigaction, 10, none, 0, 8);
    S(rt_sigaction, 0, none, 0, 8);
    S(rt_sigaction, 10, 0, none, 8);
    S(sigaction, 0, 0, 0);
    S(signal, 9, 1);
    S(signal, 65, 1);
    S(rt_sigprocmask, 9, 0, buffer, 8);
    S(rt_sigprocmask, 9, buffer, 0, 8);
    S(rt_sigprocmask, 0, none, 0, 8);
    S(rt_sigprocmask, 0, 0, none, 8);
    S(rt_sigprocmask, 9, none, 0, 8);
    S(rt_sigprocmask, 0, 0, 0, 4);
    S(sigprocmask, 9, buffer, 0);
    S(rt_sigpending, buffer, 9);
    S(rt_sigpending, none, 8);
    S(rt_sigsuspend, none, 8);
    S(rt_sigsuspend, buffer, 4);
    S(sigaltstack, none, 0);
    S(rt_sigqueueinfo, getpid(), 0, none);
    S(rt_sigqueueinfo, 99999, 10, buffer);
    S(rt_sigtimedwait, none, 0, 0, 8);
    S(rt_sigtimedwait, buffer, 0, 0, 4);
    S(rt_sigtimedwait, buffer, 0, none, 8);
    S(alarm, 0);
    S(setitimer, 9, 0, 0);
    S(setitimer, 0, none, 0);
    S(getitimer, 9, buffer);
    S(getitimer, 0, none);
}

static void times_(void)
{
    struct timespec odd = {0, -1}, late = {-1, 0}, zero = {0, 0};
    S(clock_gettime, 99, buffer);
    S(clock_gettime, 0, none);
    S(clock_getres, 99, 0);
    S(clock_getres, 1, 0);
    S(clock_getres, 1, none);
    S(clock_settime, 1, &zero);
    S(clock_nanosleep, 99, 0, &zero, 0);
    S(clock_nanosleep, 0, 0, &odd, 0);
    S(clock_nanosleep, 0, 0, none, 0);
    S(clock_nanosleep, 3, 0, &zero, 0);
    S(clock_nanosleep, 1, 99, &zero, 0);
    S(nanosleep, &late, 0);
    S(nanosleep, none, 0);
    S(gettimeofday, none, 0);
    S(gettimeofday, 0, 0);
    S(time, none);
    S(getrandom, none, 1, 0);
    S(getrandom, none, 0, 0);
    S(getrandom, buffer, 1, 99);
    S(getrandom, edge, 8, 0);
}

static void words(void)
{
    int word = 1;
    struct timespec odd = {0, -1}, zero = {0, 0};
    S(futex, &word, FUTEX_WAIT, 0, 0);
    S(futex, &word, FUTEX_WAIT, 1, &zero);
    S(futex, &word, FUTEX_WAIT, 0, &odd);
    S(futex, &word, FUTEX_WAIT, 1, none);
    S(futex, (char *)&word + 1, FUTEX_WAIT, 1, &zero);
    S(futex, none, FUTEX_WAIT, 1, &zero);
    S(futex, none, FUTEX_WAKE, 1);
    S(futex, none, FUTEX_WAKE_PRIVATE, 1);
    S(futex, (char *)&word + 1, FUTEX_WAKE, 1);
    S(futex, &word, 77, 1);
    S(futex, &word, FUTEX_WAIT_BITSET, 1, 0, 0, 0);
    S(futex, &word, FUTEX_WAKE_BITSET, 1, 0, 0, 0);
    S(futex, &word, FUTEX_REQUEUE, -1, 1, &word, 0);
    S(futex, &word, FUTEX_CMP_REQUEUE, 1, 1, &word, 5);
    S(futex, &word, FUTEX_WAKE | FUTEX_CLOCK_REALTIME, 1);
}

static void programs(void)
{
    char *vector[] = {"x", 0}, *wild[] = {none, 0};
    int fd = open("script", O_WRONLY | O_CREAT, 0700);
    write(fd, "#!/nothing/there\n", 17);
    close(fd);
    S(execve, "nothing", vector, vector);
    S(execve, "", vector, vector);
    S(execve, none, vector, vector);
    S(execve, "script", none, 0);
    S(execve, "script", wild, 0);
    S(execve, "d", vector, 0);
    S(execve, "nothing/x", vector, 0);
    S(execve, "f/x", vector, 0);
    S(execve, "loop", vector, 0);
    S(execve, "script", vector, 0);
    S(execveat, 99, "f", vector, 0, 0);
    S(execveat, AT_FDCWD, "f", vector, 0, 1);
    S(execveat, AT_FDCWD, "link", vector, 0, AT_SYMLINK_NOFOLLOW);
    S(execveat, directory, "", vector, 0, AT_EMPTY_PATH);
    S(clone, 0x00010000, 0, 0, 0, 0);
    S(clone, 0x00000800, 0, 0, 0, 0);
    S(clone3, none, 64);
    S(clone3, buffer, 8);
}

int main(void)
{
    begin();
    prepare();
    reading();
    vectors();
    opening();
    names();
    renaming();
    attributes();
    descriptors();
    places();
    polling();
    memory();
    identity();
    signals();
    times_();
    words();
    programs();
    return 0;
}
