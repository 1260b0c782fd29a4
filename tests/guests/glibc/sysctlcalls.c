/* /proc/sys: what it says agrees with what the calls do. */
#include "calls.h"
#include <arpa/inet.h>
#include <mqueue.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/utsname.h>

static char text[200];

static char *value(const char *name)
{
    char path[200];
    sprintf(path, "/proc/sys/%s", name);
    int fd = open(path, O_RDONLY);
    long n = read(fd, text, sizeof text - 1);
    text[n < 0 ? 0 : n] = 0;
    if (n < 1 || text[n - 1] != '\n')
        printf("%s: %ld %s\n", name, n, text);
    else
        text[n - 1] = 0;
    close(fd);
    return text;
}

static long number(const char *name)
{
    return strtol(value(name), NULL, 10);
}

static void is(const char *name, long expected)
{
    long found = number(name);
    printf("%s: %s\n", name, found == expected ? "so" : "not so");
    if (found != expected)
        printf("%ld, not %ld\n", found, expected);
}

static void says(const char *name, const char *expected)
{
    printf("%s: %s\n", name, strcmp(value(name), expected) ? text : "so");
}

static int is_uuid(const char *s)
{
    static const char form[] = "xxxxxxxx-xxxx-4xxx-yxxx-xxxxxxxxxxxx";
    for (int i = 0; i < 36; i++)
        if (form[i] == 'x' ? !strchr("0123456789abcdef", s[i]) : form[i] == 'y' ? !strchr("89ab", s[i]) : s[i] != form[i])
            return 0;
    return !s[36];
}

static const char *const names[] = {
    "kernel/hostname", "kernel/domainname", "kernel/ostype", "kernel/osrelease", "kernel/version", "kernel/pid_max", "kernel/random/boot_id",
    "kernel/random/uuid", "kernel/random/entropy_avail", "kernel/random/poolsize", "kernel/ngroups_max", "kernel/cap_last_cap", "kernel/threads-max",
    "kernel/core_pattern", "kernel/msgmax", "kernel/sem", "kernel/shmmax", "kernel/shmall", "kernel/randomize_va_space", "vm/overcommit_memory",
    "vm/max_map_count", "fs/file-max", "fs/nr_open", "fs/pipe-max-size", "fs/mqueue/msg_max", "net/core/somaxconn", "net/ipv4/ip_local_port_range",
    "kernel", "kernel/random", "net/ipv4", ".", "nothing", "kernel/nothing", "kernel/hostname/x"};

int main(void)
{
    setresgid(1000, 1000, 1000), setresuid(1000, 1000, 1000);
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        struct stat s;
        char path[200];
        sprintf(path, "/proc/sys/%s", names[i]);
        if (stat(path, &s))
            printf("%s: %s\n", names[i], strerrorname_np(errno));
        else
            printf("%s: %o of %d %d, size %ld", names[i], s.st_mode, s.st_uid, s.st_gid, (long)s.st_size), R(open(path, O_WRONLY));
    }
    struct utsname u;
    uname(&u);
    says("kernel/hostname", u.nodename), says("kernel/domainname", u.domainname), says("kernel/ostype", u.sysname);
    says("kernel/osrelease", u.release), says("kernel/version", u.version);
    struct msginfo m;
    msgctl(0, IPC_INFO, (struct msqid_ds *)&m);
    is("kernel/msgmax", m.msgmax), is("kernel/msgmnb", m.msgmnb), is("kernel/msgmni", m.msgmni);
    struct seminfo s;
    semctl(0, 0, IPC_INFO, &s);
    char four[100];
    sprintf(four, "%d\t%d\t%d\t%d", s.semmsl, s.semmns, s.semopm, s.semmni), says("kernel/sem", four);
    struct shminfo h;
    shmctl(0, IPC_INFO, (struct shmid_ds *)&h);
    is("kernel/shmmni", h.shmmni);
    is("kernel/ngroups_max", sysconf(_SC_NGROUPS_MAX));
    long last = number("kernel/cap_last_cap");
    R(prctl(PR_CAPBSET_READ, last) >= 0), R(prctl(PR_CAPBSET_READ, last + 1));
    int p[2];
    pipe(p);
    long most = number("fs/pipe-max-size");
    printf("%ld\n", most);
    R(fcntl(p[0], F_SETPIPE_SZ, most) == most), R(fcntl(p[0], F_SETPIPE_SZ, most + 1));
    struct mq_attr a = {.mq_maxmsg = number("fs/mqueue/msg_max"), .mq_msgsize = number("fs/mqueue/msgsize_max")};
    R(mq_open("/sysctlcalls", O_CREAT | O_RDWR, 0600, &a) >= 0), mq_unlink("/sysctlcalls");
    a.mq_maxmsg++, R(mq_open("/sysctlcalls", O_CREAT | O_RDWR, 0600, &a));
    a.mq_maxmsg--, a.mq_msgsize++, R(mq_open("/sysctlcalls", O_CREAT | O_RDWR, 0600, &a));
    int first, end;
    sscanf(value("net/ipv4/ip_local_port_range"), "%d\t%d", &first, &end);
    struct sockaddr_in name = {.sin_family = AF_INET};
    socklen_t size = sizeof name;
    int socket_ = socket(AF_INET, SOCK_STREAM, 0);
    R(bind(socket_, (struct sockaddr *)&name, size)), getsockname(socket_, (struct sockaddr *)&name, &size);
    R(ntohs(name.sin_port) >= first && ntohs(name.sin_port) <= end);
    is("net/core/rmem_default", (getsockopt(socket(AF_UNIX, SOCK_STREAM, 0), SOL_SOCKET, SO_RCVBUF, &end, &size), end));
    R(getpid() < number("kernel/pid_max"));
    char kept[200];
    strcpy(kept, value("kernel/random/boot_id"));
    R(is_uuid(kept)), R(strcmp(kept, value("kernel/random/boot_id")));
    strcpy(kept, value("kernel/random/uuid"));
    R(is_uuid(kept)), R(strcmp(kept, value("kernel/random/uuid")) != 0);
    is("kernel/random/entropy_avail", 256), is("kernel/overflowuid", 65534), is("kernel/overflowgid", 65534);
    is("net/core/somaxconn", SOMAXCONN), is("vm/max_map_count", 65530), is("vm/overcommit_memory", 0), says("kernel/core_pattern", "core");
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    R(files.rlim_max <= (unsigned long)number("fs/nr_open"));
    return 0;
}
