/* Attributes of open files that are no files of a file system: pipes, sockets, eventfds and the like. */
#include "calls.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/xattr.h>

#define SHOW(call) (errno = 0, printf("  %s: %d", #call, (int)(call)), printf(" %s\n", strerrorname_np(errno)))

static void status(const char *what, int fd)
{
    struct stat s;
    int result = fstat(fd, &s);
    printf("  %s: %d mode %o, owner %d:%d, %d names, %d bytes\n", what, result, s.st_mode, s.st_uid, s.st_gid, (int)s.st_nlink,
           (int)s.st_size);
}

static void change(const char *what, int fd)
{
    static const struct timespec times[2] = {{100, 5}, {200, 7}};
    char path[40];
    struct stat s;
    sprintf(path, "/proc/self/fd/%d", fd);
    printf("%s\n", what);
    status("made", fd);
    SHOW(fchmod(fd, 0400));
    SHOW(fchown(fd, -1, -1));
    SHOW(fchown(fd, 0, 7));
    status("changed", fd);
    SHOW(futimens(fd, times));
    fstat(fd, &s);
    if (s.st_mtim.tv_sec == 200) printf("  times %ld.%ld %ld.%ld\n", s.st_atim.tv_sec, s.st_atim.tv_nsec, s.st_mtim.tv_sec, s.st_mtim.tv_nsec);
    SHOW(fsetxattr(fd, "user.a", "x", 1, 0));
    SHOW(fgetxattr(fd, "user.a", path, 0));
    SHOW(chmod(path, 0700));
    status("changed by its name", fd);
    SHOW(syscall(439, fd, "", R_OK, AT_EMPTY_PATH));
    SHOW(access(path, W_OK));
    SHOW(ftruncate(fd, 0));
    SHOW(fsync(fd));
}

int main(void)
{
    int ends[2];
    sigset_t none;
    setvbuf(stdout, 0, _IONBF, 0);
    pipe(ends), change("pipe", ends[0]), status("the other end", ends[1]);
    socketpair(AF_UNIX, SOCK_STREAM, 0, ends), change("pair", ends[0]), status("the other end", ends[1]);
    change("socket", socket(AF_INET, SOCK_STREAM, 0));
    change("eventfd", eventfd(0, 0)), status("another", eventfd(0, 0));
    change("epoll", epoll_create1(0));
    change("timerfd", timerfd_create(CLOCK_MONOTONIC, 0));
    sigemptyset(&none), change("signalfd", signalfd(-1, &none, 0));
    change("inotify", inotify_init1(0));
    return 0;
}
