/* Extended attributes: of files, directories, links and what has none; names, sizes, flags and permissions. */
#include "calls.h"
#include <sys/xattr.h>

static char value[70000], list[70000];

static int by_name(const void *a, const void *b) { return strcmp(*(char **)a, *(char **)b); }

/* The names of a file that begin with one of our classes, in order. */
static void names(const char *path)
{
    char *found[100];
    int n = 0;
    errno = 0;
    long size = llistxattr(path, list, sizeof list);
    printf("%s:", path);
    for (char *name = list; size > 0 && name < list + size; name += strlen(name) + 1)
        if (strncmp(name, "security.", 9) && n < 100)
            found[n++] = name;
    qsort(found, n, sizeof *found, by_name);
    for (int i = 0; i < n; i++)
        printf(" %s", found[i]);
    printf(size < 0 ? " %s\n" : "\n", strerrorname_np(errno));
}

static void get(const char *path, const char *name)
{
    memset(value, '-', 20);
    errno = 0;
    long size = lgetxattr(path, name, value, sizeof value);
    printf("%s %s = %ld %s %.*s\n", path, name, size, size < 0 ? strerrorname_np(errno) : "", size > 20 ? 20 : (int)size, value);
}

static void basics(void)
{
    R(setxattr("f", "user.one", "first", 5, 0)), get("f", "user.one");
    R(setxattr("f", "user.one", "second!", 7, 0)), get("f", "user.one");
    R(setxattr("f", "user.empty", "", 0, 0)), get("f", "user.empty");
    R(setxattr("f", "user.none", NULL, 0, 0)), get("f", "user.none");
    R(setxattr("f", "user.bytes", "\0\1\377", 3, 0)), get("f", "user.bytes"), printf("%d %d %d\n", value[0], value[1], value[2]);
    R(setxattr("f", "user.one", "x", 1, XATTR_CREATE)), R(setxattr("f", "user.new", "x", 1, XATTR_REPLACE));
    R(setxattr("f", "user.new", "x", 1, XATTR_CREATE)), R(setxattr("f", "user.new", "yy", 2, XATTR_REPLACE)), get("f", "user.new");
    R(setxattr("f", "user.both", "x", 1, 3)), R(setxattr("f", "user.new", "x", 1, 3));
    R(setxattr("f", "user.x", "x", 1, 4)), R(setxattr("f", "user.x", "x", 1, 0x80000000));
    names("f");
    R(removexattr("f", "user.empty")), R(removexattr("f", "user.empty")), R(removexattr("f", "user.nothing")), names("f");
    R(setxattr("d", "user.dir", "d", 1, 0)), names("d");
}

static void sizes(void)
{
    R(setxattr("f", "user.one", "second!", 7, 0));
    R(getxattr("f", "user.one", NULL, 0)), R(getxattr("f", "user.one", value, 0));
    R(getxattr("f", "user.one", value, 6)), R(getxattr("f", "user.one", value, 7)), R(getxattr("f", "user.one", value, 1 << 20));
    R(getxattr("f", "user.one", (void *)16, 0)), R(getxattr("f", "user.one", (void *)16, 7)), R(getxattr("f", "user.one", (void *)16, 6));
    R(setxattr("f", "user.big", value, 65537, 0)), R(setxattr("f", "user.big", value, 0x7fffffff, 0));
    R(setxattr("f", "user.big", value, 3000, 0)), R(getxattr("f", "user.big", NULL, 0)), R(removexattr("f", "user.big"));
    R(setxattr("f", "user.x", (void *)16, 1, 0)), R(setxattr("f", "user.x", (void *)16, 0, 0)), R(removexattr("f", "user.x"));
    R(setxattr("f", (void *)16, "x", 1, 0)), R(getxattr("f", (void *)16, value, 1)), R(removexattr("f", (void *)16));
    R(setxattr((void *)16, "user.x", "x", 1, 0)), R(getxattr((void *)16, "user.x", value, 1)), R(listxattr((void *)16, list, 10));
    R(listxattr("f", (void *)16, sizeof list));
}

static void classes(void)
{
    char name[300] = "user.";
    memset(name + 5, 'n', 290);
    name[255] = 0;
    R(setxattr("f", name, "x", 1, 0)), R(getxattr("f", name, value, 1)), R(removexattr("f", name));
    name[255] = 'n', name[256] = 0;
    R(setxattr("f", name, "x", 1, 0)), R(getxattr("f", name, value, 1)), R(removexattr("f", name));
    R(setxattr("f", "", "x", 1, 0)), R(getxattr("f", "", value, 1)), R(removexattr("f", ""));
    R(setxattr("f", "user.", "x", 1, 0)), R(getxattr("f", "user.", value, 1)), R(removexattr("f", "user."));
    R(setxattr("f", "user", "x", 1, 0)), R(setxattr("f", "other.x", "x", 1, 0)), R(getxattr("f", "other.x", value, 1));
    R(removexattr("f", "other.x")), R(setxattr("f", "User.x", "x", 1, 0));
    R(setxattr("f", "trusted.t", "root", 4, 0)), get("f", "trusted.t"), names("f");
    R(setxattr("l", "user.x", "x", 1, 0)), get("f", "user.x"), R(removexattr("l", "user.x"));
    R(lsetxattr("l", "user.x", "x", 1, 0)), R(lgetxattr("l", "user.x", value, 1)), R(lremovexattr("l", "user.x"));
    R(lsetxattr("l", "trusted.l", "link", 4, 0)), get("l", "trusted.l"), names("l"), R(lremovexattr("l", "trusted.l"));
    R(setxattr("fifo", "user.x", "x", 1, 0)), R(getxattr("fifo", "user.x", value, 1)), R(removexattr("fifo", "user.x"));
    R(setxattr("fifo", "trusted.x", "x", 1, 0)), get("fifo", "trusted.x");
    R(getxattr("/proc/version", "user.x", value, 1));
    R(setxattr("missing", "user.x", "x", 1, 0)), R(getxattr("missing", "user.x", value, 1)), R(listxattr("missing", list, 1));
    R(setxattr("f/x", "user.x", "x", 1, 0)), R(setxattr("f", "user.x", "x", 1, 8)), R(setxattr("missing", "user.x", "x", 1, 8));
}

static void descriptors(void)
{
    int fd = open("f", O_RDONLY), path = open("f", O_PATH), dead;
    struct stat before, after;
    R(fsetxattr(fd, "user.fd", "fd", 2, 0)), get("f", "user.fd"), R(fgetxattr(fd, "user.fd", value, 1)), R(fgetxattr(fd, "user.fd", value, 2));
    R(fsetxattr(path, "user.fd", "fd", 2, 0)), R(fgetxattr(path, "user.fd", value, 2)), R(flistxattr(path, list, 10));
    R(fremovexattr(fd, "user.fd")), R(fremovexattr(fd, "user.fd")), R(fsetxattr(-1, "user.fd", "fd", 2, 0)), R(flistxattr(-1, list, 0));
    fstat(fd, &before), usleep(20000);
    R(fsetxattr(fd, "user.time", "t", 1, 0)), fstat(fd, &after);
    printf("ctime %d mtime %d\n", after.st_ctim.tv_nsec != before.st_ctim.tv_nsec, after.st_mtim.tv_nsec != before.st_mtim.tv_nsec);
    R(rename("f", "g")), get("g", "user.time"), R(link("g", "h")), get("h", "user.time"), R(rename("g", "f"));
    dead = open("dead", O_RDWR | O_CREAT, 0600);
    R(fsetxattr(dead, "user.dead", "1", 1, 0)), unlink("dead"), R(fgetxattr(dead, "user.dead", value, 9)), R(fsetxattr(dead, "user.more", "1", 1, 0));
    close(dead), close(path), close(fd);
}

static void as_user(void)
{
    chmod("f", 0644), chmod("d", 01777), chown("own", 1000, 1000);
    pid_t pid = fork();
    if (pid) {
        ended(pid);
        return;
    }
    setresgid(1000, 1000, 1000), setresuid(1000, 1000, 1000);
    R(setxattr("f", "user.u", "u", 1, 0)), R(removexattr("f", "user.one")), get("f", "user.one");
    R(setxattr("f", "trusted.u", "u", 1, 0)), R(getxattr("f", "trusted.t", value, 9)), R(removexattr("f", "trusted.t")), names("f");
    R(setxattr("f", "security.u", "u", 1, 0)), R(getxattr("f", "security.u", value, 9));
    R(setxattr("own", "user.u", "u", 1, 0)), get("own", "user.u"), R(chmod("own", 0200)), R(getxattr("own", "user.u", value, 9)), names("own");
    R(chmod("own", 0400)), R(setxattr("own", "user.u", "v", 1, 0)), get("own", "user.u");
    R(setxattr("d", "user.u", "u", 1, 0)), R(removexattr("d", "user.dir"));
    _exit(0);
}

int main(void)
{
    char directory[] = "/tmp/xattrcalls.XXXXXX";
    setbuf(stdout, NULL);
    if (!mkdtemp(directory) || chdir(directory))
        return 1;
    chmod(directory, 0755);
    close(open("f", O_RDWR | O_CREAT, 0644)), close(open("own", O_RDWR | O_CREAT, 0644)), mkdir("d", 0755), symlink("f", "l"), mkfifo("fifo", 0600);
    basics(), sizes(), classes(), descriptors(), as_user();
    return 0;
}
