/* What the programs about sockets share. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

static int sv[2];

#define PAIR(type) socketpair(AF_UNIX, type, 0, sv)
#define CLOSE2() (close(sv[0]), close(sv[1]))

/* The events of poll(2), by name. */
static void polled(const char *what, int fd)
{
    static const struct {
        int bit;
        const char *name;
    } names[] = {{POLLIN, "IN"},         {POLLOUT, "OUT"},       {POLLERR, "ERR"},
                 {POLLHUP, "HUP"},       {POLLRDHUP, "RDHUP"},   {POLLPRI, "PRI"},
                 {POLLRDNORM, "RDNORM"}, {POLLWRNORM, "WRNORM"}, {POLLWRBAND, "WRBAND"}};
    struct pollfd p = {fd, 0xffff & ~POLLNVAL, 0};
    poll(&p, 1, 0);
    printf("%s polls", what);
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        if (p.revents & names[i].bit)
            printf(" %s", names[i].name);
    printf("\n");
}

static int option(int fd, int level, int name)
{
    int value = -1;
    socklen_t size = sizeof value;
    if (getsockopt(fd, level, name, &value, &size) < 0)
        return -1;
    return value;
}

static int set(int fd, int level, int name, int value) { return setsockopt(fd, level, name, &value, sizeof value); }

static struct sockaddr_un un;
static socklen_t un_name(const char *path)
{
    memset(&un, 0, sizeof un);
    un.sun_family = AF_UNIX;
    if (path[0] == '@') {
        memcpy(un.sun_path + 1, path + 1, strlen(path) - 1);
        return offsetof(struct sockaddr_un, sun_path) + strlen(path);
    }
    strcpy(un.sun_path, path);
    return sizeof un;
}

static void named(const char *what, int (*get)(int, struct sockaddr *, socklen_t *), int fd)
{
    struct sockaddr_un address;
    socklen_t size = sizeof address;
    memset(&address, 0, sizeof address);
    if (get(fd, (void *)&address, &size) < 0) {
        show(what, -1);
        return;
    }
    printf("%s: family %d size %d '%s' '%s'\n", what, address.sun_family, (int)size, address.sun_path,
           address.sun_path[0] ? "" : address.sun_path + 1);
}
