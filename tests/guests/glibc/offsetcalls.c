/* Offsets and lengths at the ends of what 64 bits hold, in every call that takes such. */
#include "calls.h"
#include <sys/socket.h>

static long long position(int fd, long long offset, int whence)
{
    return lseek64(fd, 7, SEEK_SET), lseek64(fd, offset, whence);
}

#define L(call) (errno = 0, at = (call), printf(#call " = %lld %s\n", at, at < 0 ? strerrorname_np(errno) : ""))

static long ranged(int number, int fd, long long offset, long long length, long flags)
{
    return syscall(number, fd, (long)offset, (long)(offset >> 32), (long)length, (long)(length >> 32), flags);
}

static long allocate(int fd, int mode, long long offset, long long length)
{
    return syscall(SYS_fallocate, fd, mode, (long)offset, (long)(offset >> 32), (long)length, (long)(length >> 32));
}

int main(void)
{
    static const long long offsets[] = {0,           1,           -1,       0x7fffffff, 0x80000000ll, LLONG_MAX, LLONG_MAX - 1, LLONG_MAX - 9, LLONG_MAX - 10,
                                        LLONG_MAX - 4095, LLONG_MIN, LLONG_MIN + 1, 1ll << 62};
    static const char *const kinds[] = {"file", "directory", "pipe", "pipe to write", "null", "read only", "socket", "path"};
    int ends[2], pair[2];
    pipe(ends), socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    int fds[] = {memfd_create("offsets", 0), open("/tmp", O_RDONLY | O_DIRECTORY), ends[0], ends[1], open("/dev/null", O_RDWR), open("/proc/self/exe", O_RDONLY), pair[0],
                 open("/proc/self/exe", O_PATH)};
    ftruncate(fds[0], 100);
    unsigned n = sizeof offsets / sizeof *offsets;
    for (unsigned k = 0; k < sizeof fds / sizeof *fds; k++) {
        int fd = fds[k];
        struct iovec part = {buffer, 10};
        printf("-- %s\n", kinds[k]);
        for (unsigned i = 0; i < n; i++) {
            long long o = offsets[i], at;
            printf("offset %lld\n", o);
            if (k == 0) {
                L(position(fd, o, SEEK_SET)), L(position(fd, o, SEEK_CUR)), L(position(fd, o, SEEK_END)), L(position(fd, o, 99));
                if (lseek64(fd, o, SEEK_SET) == o && o > 100)
                    R(read(fd, buffer, 0));
            }
            if (o < 0 || o > 1ll << 62) {
                R(pread64(fd, buffer, 10, o)), R(pread64(fd, buffer, 0, o)), R(preadv64(fd, &part, 1, o));
                if (o < 0 || o > LLONG_MAX - 10)
                    R(pwrite64(fd, buffer, 10, o)), R(pwritev64(fd, &part, 1, o));
            }
            if (o < 0)
                R(ftruncate64(fd, o));
            for (unsigned j = 0; j < n; j++) {
                long long l = offsets[j];
                printf("length %lld\n", l);
                R(ranged(SYS_sync_file_range, fd, o, l, 0)), R(ranged(SYS_sync_file_range, fd, o, l, 7)), R(ranged(SYS_sync_file_range, fd, o, l, 8));
                R(posix_fadvise64(fd, o, l, POSIX_FADV_NORMAL)), R(posix_fadvise64(fd, o, l, 9));
                if (k || o < 0 || l <= 0)
                    R(allocate(fd, 0, o, l)), R(allocate(fd, 0x100, o, l));
            }
        }
    }
    R(ranged(SYS_sync_file_range, 99, 0, 0, 0)), R(ranged(SYS_sync_file_range, 99, 0, 0, 99)), R(allocate(99, 0, -1, 0));
    return 0;
}
