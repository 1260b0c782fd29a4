/* /dev/mqueue: message queues as files. Begins as root. */
#include "calls.h"
#include <dirent.h>
#include <mqueue.h>
#include <sys/mount.h>
#include <sys/vfs.h>

static struct mq_attr attributes = {.mq_maxmsg = 5, .mq_msgsize = 100};

static void told(int fd)
{
    memset(buffer, 0, 200);
    long n = (errno = 0, pread(fd, buffer, 199, 0));
    char *pid = strstr(buffer, "NOTIFY_PID:");
    int number = pid ? atoi(pid + 11) : -1;
    printf("%ld: %.*s%s", n, pid ? (int)(pid - buffer) : 0, buffer, number == getpid() ? "me\n" : number ? "another\n" : pid);
}

static void attributes_of(const char *path)
{
    struct stat s;
    if (stat(path, &s))
        printf("%s: %s\n", path, strerrorname_np(errno));
    else
        printf("%s: %o of %d %d, %ld bytes, %d links, block %ld, blocks %ld\n", path, s.st_mode, s.st_uid, s.st_gid, (long)s.st_size, (int)s.st_nlink, (long)s.st_blksize, (long)s.st_blocks);
}

static void list(void)
{
    DIR *d = opendir("/dev/mqueue");
    struct dirent *e;
    while ((e = readdir(d)))
        printf("  %s %d\n", e->d_name, e->d_type);
    closedir(d);
    attributes_of("/dev/mqueue");
}

static void files(void)
{
    struct statfs fs;
    int q, r, fd;
    struct stat a, b;
    R(statfs("/dev/mqueue", &fs)), R((int)(fs.f_type == 0x19800202)), R(fs.f_bsize), R(fs.f_namelen), list();
    R((q = mq_open("/one", O_RDWR | O_CREAT, 0640, &attributes)) > 0), R((r = mq_open("/two", O_RDWR | O_CREAT, 0666, &attributes)) > 0), list(), attributes_of("/dev/mqueue/one"), attributes_of("/dev/mqueue/two"), attributes_of("/dev/mqueue/three");
    told(q), R(mq_send(q, "hello", 5, 1)), R(mq_send(q, "hi", 2, 9)), told(q), R((fd = open("/dev/mqueue/one", O_RDONLY)) > 0), told(fd), R(fstat(q, &a)), R(fstat(fd, &b)), R(a.st_ino == b.st_ino && a.st_dev == b.st_dev), R(a.st_size);
    R(read(fd, buffer, 10)), R(lseek(fd, 0, SEEK_CUR)), R(read(fd, buffer, 100)), R(read(fd, buffer, 100)), R(lseek(fd, 3, SEEK_SET)), R(read(fd, buffer, 3)), R(lseek(fd, -10, SEEK_END)), R(lseek(q, 5, SEEK_SET)), R(pread(fd, buffer, 5, 70)), R(lseek(fd, -1, SEEK_SET));
    R(write(q, "x", 1)), R(write(fd, "x", 1)), R(mq_receive(fd, buffer, 100, NULL)), printf("%.2s\n", buffer), R(mq_send(fd, "x", 1, 0)), told(q), R(mq_getattr(fd, &attributes)), R(attributes.mq_maxmsg), R(attributes.mq_curmsgs), close(fd);
    R((fd = open("/dev/mqueue/made", O_RDWR | O_CREAT | O_EXCL, 0600)) > 0), R(mq_getattr(fd, &attributes)), R(attributes.mq_maxmsg), R(attributes.mq_msgsize), R(mq_send(fd, "new", 3, 0)), told(fd), R(mq_open("/made", O_RDONLY) > 0), R(open("/dev/mqueue/made", O_CREAT | O_EXCL, 0600)), list();
    attributes.mq_maxmsg = 5, attributes.mq_msgsize = 100;
    R(mkdir("/dev/mqueue/d", 0700)), R(symlink("x", "/dev/mqueue/l")), R(link("/dev/mqueue/one", "/dev/mqueue/again")), R(rename("/dev/mqueue/one", "/dev/mqueue/other")), R(mknod("/dev/mqueue/p", S_IFIFO | 0600, 0)), R(rmdir("/dev/mqueue/one")), R(rmdir("/dev/mqueue"));
    R(mknod("/dev/mqueue/node", S_IFREG | 0600, 0)), attributes_of("/dev/mqueue/node"), R(unlink("/dev/mqueue/node"));
    R(chmod("/dev/mqueue/one", 0604)), R(chown("/dev/mqueue/one", 7, 8)), attributes_of("/dev/mqueue/one"), R(truncate("/dev/mqueue/one", 5)), attributes_of("/dev/mqueue/one"), R(access("/dev/mqueue/one", X_OK));
    fd = open("/dev/mqueue/one", O_RDWR | O_TRUNC), attributes_of("/dev/mqueue/one"), told(fd), R(ftruncate(fd, 80)), R(mq_unlink("/two")), R(unlink("/dev/mqueue/one")), R(fstat(fd, &a)), R(a.st_nlink), told(fd), R(mq_receive(fd, buffer, 100, NULL)), R(mq_unlink("/one")), list(), close(fd), close(q), close(r);
    R(unlink("/dev/mqueue/made")), R(unlink("/dev/mqueue/made")), list();
}

static void notices(void)
{
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    int q, fd;
    signal(SIGUSR1, SIG_IGN);
    R((q = mq_open("/told", O_RDWR | O_CREAT, 0644, &attributes)) > 0), fd = open("/dev/mqueue/told", O_RDONLY);
    R(mq_notify(q, &event)), told(fd), R(mq_notify(fd, &event)), R(mq_notify(q, NULL)), told(fd), event.sigev_notify = SIGEV_NONE, R(mq_notify(fd, &event)), told(q);
    if (!fork())
        told(fd), close(q), told(fd), _exit(0);
    wait(NULL), told(fd), close(dup(q)), told(fd), event.sigev_notify = SIGEV_SIGNAL, R(mq_notify(q, &event)), close(fd), told(q), R(mq_notify(q, &event)), R(mq_send(q, "", 0, 0)), told(q), R(mq_notify(q, &event)), told(q);
    R(mq_unlink("/told")), close(q);
}

static void users(void)
{
    int q;
    R(mq_open("/roots", O_RDWR | O_CREAT, 0600, &attributes) > 0), R(mq_open("/all", O_RDWR | O_CREAT, 0644, &attributes) > 0), R(chmod("/dev/mqueue/all", 0644));
    setgroups(0, NULL), setresgid(500, 500, 500), setresuid(500, 500, 500);
    R(open("/dev/mqueue/roots", O_RDONLY)), R((q = open("/dev/mqueue/all", O_RDONLY)) > 0), told(q), R(open("/dev/mqueue/all", O_RDWR)), R(unlink("/dev/mqueue/all")), R(mq_unlink("/all")), R(chmod("/dev/mqueue/all", 0666));
    R(open("/dev/mqueue/mine", O_RDWR | O_CREAT, 0666) > 0), attributes_of("/dev/mqueue/mine"), R(unlink("/dev/mqueue/mine")), R(chmod("/dev/mqueue", 0700));
}

int main(void)
{
    struct statfs fs;
    setvbuf(stdout, NULL, _IONBF, 0), umask(022);
    if (statfs("/dev/mqueue", &fs) || fs.f_type != 0x19800202) { /* a place of our own for it */
        if (unshare(CLONE_NEWNS | CLONE_NEWIPC) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) || mount("none", "/dev", "tmpfs", 0, NULL) || mkdir("/dev/mqueue", 0755) || mount("none", "/dev/mqueue", "mqueue", 0, NULL))
            return perror("mount"), 99;
    }
    files(), notices(), users();
    if (!geteuid())
        return 1;
    return 0;
}
