/* inotify: what is told of files and directories, by which events, in which order. */
#include "calls.h"
#include <sys/inotify.h>
#include <sys/xattr.h>
#include <sys/ioctl.h>

static int in;

static void told(const char *what)
{
    static char events[65536] __attribute__((aligned(8)));
    int n = read(in, events, sizeof events);
    unsigned last = 0;
    printf("%s:\n", what);
    for (int at = 0; at < n;) {
        struct inotify_event *e = (void *)(events + at);
        printf("  %d %x %s %d%s\n", e->wd, e->mask, e->len ? e->name : "-", e->len, e->cookie ? e->cookie == last ? " same" : " new" : "");
        last = e->cookie;
        at += sizeof *e + e->len;
    }
}

static void errors(void)
{
    int p[2];
    pipe(p);
    R(inotify_init1(1));
    R(fcntl(in, F_GETFL));
    R(inotify_add_watch(99, ".", IN_OPEN));
    R(inotify_add_watch(p[0], ".", IN_OPEN));
    R(inotify_add_watch(in, ".", 0));
    R(inotify_add_watch(in, "none", IN_OPEN));
    R(inotify_add_watch(in, (char *)16, IN_OPEN));
    R(inotify_add_watch(in, ".", IN_OPEN | IN_MASK_ADD | IN_MASK_CREATE));
    R(inotify_rm_watch(in, 5));
    R(inotify_rm_watch(99, 5));
    R(inotify_rm_watch(p[0], 5));
    R(read(in, buffer, 100));
    R(write(in, buffer, 100));
    close(open("closed", O_CREAT | O_WRONLY, 0));
    R(inotify_add_watch(in, "closed", IN_OPEN));
    R(inotify_add_watch(in, "closed", IN_OPEN | IN_ONLYDIR));
    close(p[0]), close(p[1]);
}

static void a_directory(void)
{
    int watch = inotify_add_watch(in, ".", IN_ALL_EVENTS & ~IN_ATTRIB), n, fd;
    R(watch);
    R(inotify_add_watch(in, ".", IN_ALL_EVENTS | IN_MASK_CREATE));
    fd = open("file", O_CREAT | O_RDWR, 0644);
    write(fd, "abc", 3);
    write(fd, "abc", 3);
    pread(fd, buffer, 3, 0);
    told("create, write, read");
    ftruncate(fd, 1);
    close(fd);
    told("truncate, close");
    close(open("file", O_RDONLY));
    close(open("file", O_RDWR | O_TRUNC));
    close(open("file", O_PATH));
    told("open and close");
    mkdir("directory", 0755);
    symlink("file", "link");
    link("file", "second");
    mkfifo("fifo", 0644);
    told("made");
    rename("file", "moved");
    rename("moved", "directory/inside");
    rename("directory/inside", "back");
    told("moved");
    R(rmdir("directory"));
    R(unlink("link")), R(unlink("second")), R(unlink("back")), R(unlink("fifo"));
    told("removed");
    close(open(".", O_RDONLY | O_DIRECTORY));
    told("opened itself");
    R(inotify_rm_watch(in, watch));
    told("watched no longer");
    R(inotify_rm_watch(in, watch));
    (void)n;
}

static void a_file(void)
{
    int fd = open("file", O_CREAT | O_RDWR, 0644), watch = inotify_add_watch(in, "file", IN_ALL_EVENTS);
    R(watch);
    chmod("file", 0600), utimensat(AT_FDCWD, "file", NULL, 0), fchmod(fd, 0644);
    told("attributes");
    write(fd, "x", 1), lseek(fd, 0, SEEK_SET), read(fd, buffer, 10), read(fd, buffer, 10);
    truncate("file", 5);
    told("content");
    link("file", "other"), rename("file", "elsewhere"), unlink("other");
    told("names");
    unlink("elsewhere");
    told("no name left");
    close(fd);
    told("closed");
    fd = open("file", O_CREAT | O_RDWR, 0644);
    close(open("replaced", O_CREAT | O_RDWR, 0644));
    R(inotify_add_watch(in, "replaced", IN_ALL_EVENTS));
    rename("file", "replaced");
    told("replaced by another");
    close(fd);
    R(inotify_add_watch(in, "replaced", IN_OPEN | IN_ONESHOT));
    close(open("replaced", O_RDONLY)), close(open("replaced", O_RDONLY));
    told("once");
    watch = inotify_add_watch(in, "replaced", IN_OPEN);
    R(inotify_add_watch(in, "replaced", IN_CLOSE | IN_MASK_ADD) == watch);
    close(open("replaced", O_RDONLY));
    told("added");
    R(inotify_add_watch(in, "replaced", IN_CLOSE_WRITE) == watch);
    close(open("replaced", O_RDWR));
    told("other events");
    symlink("replaced", "link");
    R(inotify_add_watch(in, "link", IN_OPEN | IN_DONT_FOLLOW) != watch);
    R(inotify_rm_watch(in, watch));
    told("removed");
}

static void both(void)
{
    int n;
    mkdir("watched", 0755);
    R(inotify_add_watch(in, "watched", IN_ALL_EVENTS) > 0);
    close(open("watched/file", O_CREAT | O_WRONLY, 0644));
    told("in the directory");
    R(inotify_add_watch(in, "watched/file", IN_ALL_EVENTS) > 0);
    int fd = open("watched/file", O_WRONLY);
    write(fd, "x", 1);
    close(fd);
    told("in both");
    unlink("watched/file");
    told("removed in both");
    rename("watched", "renamed");
    told("the directory itself moved");
    mkdir("renamed/inner", 0755), rmdir("renamed/inner");
    told("made and removed");
    rmdir("renamed");
    told("the directory itself removed");
    R(inotify_add_watch(in, ".", IN_CREATE | IN_MOVED_TO) > 0);
    close(open("a", O_CREAT | O_WRONLY, 0644)), close(open("a-long-name-of-a-file", O_CREAT | O_WRONLY, 0644));
    R(ioctl(in, FIONREAD, &n)), R(n);
    R(read(in, buffer, 20));
    R(read(in, buffer, 40));
    R(ioctl(in, FIONREAD, &n)), R(n);
    struct pollfd poller = {in, POLLIN};
    R(poll(&poller, 1, 0)), R(poller.revents);
    R(read(in, buffer, 48)), R(read(in, buffer, 400));
    R(poll(&poller, 1, 0));
    fcntl(in, F_SETFL, 0);
    pid_t pid = LATER(30, close(open("late", O_CREAT | O_WRONLY, 0644)));
    R(read(in, buffer, 400));
    ended(pid);
    for (int i = 0; i < 3; i++)
        rename("late", "later"), rename("later", "late");
    R(ioctl(in, FIONREAD, &n)), R(n);
    close(in);
    R(rename("late", "later"));
}

/* Attributes of files in a watched directory: by path, by link, by descriptor, under another name. */
static void attributes(void)
{
    in = inotify_init1(IN_NONBLOCK);
    mkdir("watched", 0755), close(open("watched/f", O_CREAT | O_WRONLY, 0644)), mkdir("watched/d", 0755);
    symlink("watched/f", "outside"), link("watched/f", "name");
    int fd = open("watched/f", O_RDWR), other = open("name", O_RDWR), directory = open("watched/d", O_RDONLY);
    close(open("watched/gone", O_CREAT | O_WRONLY, 0644));
    R(inotify_add_watch(in, "watched", IN_ATTRIB));
    chmod("watched/f", 0600), told("chmod");
    fchmodat(AT_FDCWD, "watched/d", 0700, 0), told("fchmodat of a directory");
    chown("watched/f", -1, -1), told("chown of nothing"), chown("watched/f", getuid(), -1), told("chown");
    lchown("watched/f", -1, getgid()), told("lchown");
    utimensat(AT_FDCWD, "watched/f", NULL, 0), told("utimensat");
    fchmod(fd, 0644), told("fchmod"), futimens(fd, NULL), told("futimens"), fchown(fd, getuid(), -1), told("fchown");
    fchmod(directory, 0755), told("fchmod of a directory");
    chmod("outside", 0640), told("by a link from outside");
    chmod("name", 0600), told("by another name"), fchmod(other, 0600), told("opened by another name");
    chmod("watched", 0700), told("itself"), chmod("watched/.", 0755), told("itself by a dot");
    setxattr("watched/f", "user.x", "x", 1, 0), told("setxattr"), removexattr("watched/f", "user.x"), told("removexattr");
    fsetxattr(fd, "user.x", "x", 1, 0), told("fsetxattr");
    truncate("watched/f", 9), told("truncate"), write(fd, "x", 1), told("write");
    unlink("watched/gone"), told("unlink");
    R(inotify_add_watch(in, "watched/f", IN_ATTRIB));
    chmod("watched/f", 0644), told("both");
    close(fd), close(other), close(directory), close(in);
}

int main(void)
{
    begin();
    in = inotify_init1(IN_NONBLOCK);
    errors();
    a_directory();
    a_file();
    both();
    attributes();
    return 0;
}
