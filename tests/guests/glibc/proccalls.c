/* /proc/PID: who may look at what of whom, and what is written there. Begins as root. */
#include "calls.h"
#include <dirent.h>

static const char *const files[] = {"environ", "auxv", "maps", "mem", "limits", "comm", "status", "stat", "cmdline", "mounts", "wchan", "oom_score_adj",
                                    "loginuid", "fdinfo/9", "fd/9"};
static const char *const links[] = {"cwd", "root", "exe", "fd/9"};
static const char *const directories[] = {"fd", "fdinfo", "task"};

static const char *error(long answer)
{
    return answer < 0 ? strerrorname_np(errno) : "fine";
}

static void look(const char *what, pid_t pid)
{
    char path[100], text[20];
    struct stat s;
    printf("-- %s\n", what);
    for (unsigned i = 0; i < sizeof files / sizeof *files; i++) {
        sprintf(path, "/proc/%d/%s", pid, files[i]);
        int fd = open(path, O_RDONLY);
        printf("%s: open %s", files[i], error(fd));
        if (fd >= 0 && strcmp(files[i], "fd/9") && strcmp(files[i], "mem"))
            printf(", read %s", error(read(fd, text, sizeof text)));
        if (fd >= 0)
            close(fd);
        if (!stat(path, &s))
            printf(", %o of %d %d\n", s.st_mode, s.st_uid, s.st_gid);
        else
            printf(", stat %s\n", error(-1));
    }
    for (unsigned i = 0; i < sizeof links / sizeof *links; i++) {
        sprintf(path, "/proc/%d/%s", pid, links[i]);
        printf("%s: readlink %s", links[i], error(readlink(path, text, sizeof text)));
        printf(", follow %s", error(open(path, O_PATH)));
        printf(", itself %s\n", error(lstat(path, &s)));
    }
    for (unsigned i = 0; i < sizeof directories / sizeof *directories; i++) {
        sprintf(path, "/proc/%d/%s", pid, directories[i]);
        DIR *d = opendir(path);
        printf("%s: open %s", directories[i], error(d ? 0 : -1));
        if (d)
            printf(", read %s", error(readdir(d) ? 0 : -1)), closedir(d);
        printf(", %s\n", stat(path, &s) ? error(-1) : "there");
    }
}

static void become(int uid, int dumpable)
{
    setgroups(0, NULL), setresgid(uid, uid, uid), setresuid(uid, uid, uid);
    prctl(PR_SET_DUMPABLE, dumpable);
}

static void look_as(const char *what, int uid, pid_t pid)
{
    pid_t looker = fork();
    if (!looker) {
        if (uid)
            become(uid, 1);
        look(what, pid);
        _exit(0);
    }
    waitpid(looker, NULL, 0);
}

static void put(const char *path, const char *text)
{
    char now[100] = "";
    int fd = open(path, O_RDWR | O_TRUNC);
    printf("%s < %s: open %s", path, text, error(fd));
    if (fd >= 0)
        printf(", write %s", error(write(fd, text, strlen(text))));
    close(fd);
    fd = open(path, O_RDONLY);
    long n = read(fd, now, sizeof now - 1);
    printf(", now %s", n < 0 ? error(-1) : now);
    if (n < 1 || now[n - 1] != '\n')
        puts("");
    close(fd);
}

static void text_of(const char *path)
{
    char text[2000];
    int fd = open(path, O_RDONLY);
    long n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    text[n < 0 ? 0 : n] = 0;
    printf("-- %s: %s\n%s\n", path, error(n), text);
    close(fd);
}

static void *second(void *unused)
{
    char path[100], seen[100];
    pid_t tid = gettid();
    prctl(PR_SET_NAME, "second");
    sprintf(path, "/proc/self/task/%d/comm", tid);
    int fd = open(path, O_RDWR);
    printf("write %ld, ", (long)write(fd, "a thread's long name\n", 21));
    prctl(PR_GET_NAME, seen);
    printf("name %s\n", seen);
    close(fd);
    sprintf(path, "%d/task/%d", getpid(), tid);
    memset(seen, 0, sizeof seen);
    readlink("/proc/thread-self", seen, sizeof seen - 1);
    printf("thread-self %s\n", strcmp(path, seen) ? seen : "is this thread");
    text_of("/proc/thread-self/comm");
    text_of("/proc/self/comm");
    return unused;
}

int main(void)
{
    int ready[2], end[2];
    setbuf(stdout, NULL);
    for (int dumpable = 0; dumpable < 2; dumpable++) {
        pipe(ready), pipe(end);
        pid_t pid = fork();
        if (!pid) {
            dup2(open("/", O_RDONLY | O_DIRECTORY), 9);
            chdir("/tmp");
            become(1000, dumpable);
            look("itself", getpid());
            write(ready[1], "", 1), close(end[1]);
            read(end[0], buffer, 1);
            _exit(0);
        }
        read(ready[0], buffer, 1);
        printf("---- dumpable %d\n", dumpable);
        look_as("the same user", 1000, pid);
        look_as("another user", 2000, pid);
        look_as("root", 0, pid);
        close(end[0]), close(end[1]), close(ready[0]), close(ready[1]);
        waitid(P_PID, pid, NULL, WEXITED | WNOWAIT);
        look_as("a zombie, the same user", 1000, pid);
        look_as("a zombie, another user", 2000, pid);
        waitpid(pid, NULL, 0);
    }
    put("/proc/self/comm", "short");
    put("/proc/self/comm", "much longer than fifteen\n");
    put("/proc/self/comm", "two\nlines");
    put("/proc/1/limits", "x");
    const char *const scores[] = {"0", "17\n", " 30 ", "1000", "1001", "-1001", "", "x", "5 6", "0x1F", "010", "08", "+4"};
    for (unsigned i = 0; i < sizeof scores / sizeof *scores; i++)
        put("/proc/self/oom_score_adj", scores[i]);
    put("/proc/self/oom_score_adj", "0");
    pid_t parent = getpid(), child = fork();
    if (!child) {
        char path[100];
        sprintf(path, "/proc/%d/comm", parent);
        int fd = open(path, O_WRONLY);
        printf("another's name: open %s, write %s\n", error(fd), error(write(fd, "x", 1)));
        become(1000, 1);
        printf("as a user: open %s\n", error(open(path, O_WRONLY)));
        put("/proc/self/oom_score_adj", "20");
        put("/proc/self/oom_score_adj", "10");
        put("/proc/self/oom_score_adj", "0");
        put("/proc/self/oom_score_adj", "-1");
        put("/proc/self/comm", "mine");
        _exit(0);
    }
    waitpid(child, NULL, 0);
    static const int limits[16][2] = {{1000, 2000}, {1 << 29, 1 << 30}, {1 << 29, 1 << 30}, {1 << 20, 8 << 20}, {0, 5}, {6, 7}, {400, 500}, {100, 200},
                                      {0, 1 << 16}, {1 << 30, 1 << 30}, {8, 9}, {10, 11}, {12, 13}, {0, 0}, {0, 0}, {14, -1}};
    for (int i = 0; i < 16; i++)
        setrlimit(i, &(struct rlimit){limits[i][0], limits[i][1]});
    text_of("/proc/self/limits");
    text_of("/proc/self/uid_map"), text_of("/proc/self/gid_map"), text_of("/proc/self/setgroups"), text_of("/proc/self/loginuid"), text_of("/proc/self/sessionid");
    text_of("/proc/self/personality");
    pthread_t thread;
    pthread_create(&thread, NULL, second, NULL), pthread_join(thread, NULL);
    int fd = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char path[100];
    sprintf(path, "/proc/self/fdinfo/%d", fd);
    fd = open(path, O_RDONLY);
    buffer[read(fd, buffer, sizeof buffer - 1)] = 0;
    *strstr(buffer, "mnt_id") = 0;
    puts(buffer);
    text_of("/proc/self/fdinfo/77");
    return 0;
}
