/* A server and a client for tests of the network's edges: server serve PORT [COUNT] | server fetch NAME PORT [TEXT].

   `serve` answers each connection's bytes in capitals until its end, COUNT connections; `fetch` resolves NAME, sends TEXT
   and prints what comes back, or the error. `flood PORT` sends for ever; `hold PORT` accepts and never reads; `knock NAME PORT TIMES`
   connects without waiting, and closes; `urgent PORT` sends urgent data. */
#include "calls.h"
#include "net.h"
#include <ctype.h>
#include <netdb.h>

static int listening(int port)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
    set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (bind(fd, (void *)&in, sizeof in) || listen(fd, 64)) {
        perror("listen");
        exit(1);
    }
    return fd;
}

static void serve(int port, int times)
{
    int l = listening(port), n;
    while (times-- > 0) {
        int c = accept(l, NULL, NULL);
        while ((n = read(c, buffer, sizeof buffer)) > 0) {
            for (int i = 0; i < n; i++)
                buffer[i] = toupper(buffer[i]);
            for (int at = 0, sent; at < n; at += sent)
                if ((sent = write(c, buffer + at, n - at)) < 0)
                    exit(2);
        }
        close(c);
    }
}

/* The address of a name, by DNS: a static program cannot load what getaddrinfo(3) may need. */
static struct in_addr look_up(const char *name)
{
    struct in_addr found = {0};
    unsigned char q[300] = {0x12, 0x34, 1, 0, 0, 1}, *p = q + 12;
    struct sockaddr_in dns = {.sin_family = AF_INET, .sin_port = htons(53)};
    if (inet_aton(name, &found))
        return found;
    inet_aton("127.0.0.1", &dns.sin_addr);
    for (const char *s = name; *s;) {
        int n = strcspn(s, ".");
        *p++ = n;
        memcpy(p, s, n);
        p += n, s += n + (s[n] == '.');
    }
    memcpy(p, "\0\0\1\0\1", 5);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    connect(fd, (void *)&dns, sizeof dns);
    send(fd, q, p + 5 - q, 0);
    int n = recv(fd, q, sizeof q, 0);
    close(fd);
    if (n < 0 || q[3] & 15 || !q[7]) {
        printf("%s: not found\n", name);
        exit(3);
    }
    memcpy(&found, q + n - 4, 4);
    return found;
}

static void fetch(const char *name, int port, const char *text)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = look_up(name)};
    int fd = socket(AF_INET, SOCK_STREAM, 0), n;
    for (int tries = 0; connect(fd, (void *)&in, sizeof in); tries++) {
        if (tries == 20 || errno != ECONNREFUSED || !getenv("PATIENT")) {
            printf("%s\n", strerrorname_np(errno));
            exit(4);
        }
        usleep(10000);
    }
    write(fd, text, strlen(text));
    shutdown(fd, SHUT_WR);
    while ((n = read(fd, buffer, sizeof buffer)) > 0)
        fwrite(buffer, 1, n, stdout);
    if (n < 0)
        printf("%s\n", strerrorname_np(errno));
}

/* Begin to connect, and close, so many times. */
static void knock(const char *name, int port, int times)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = look_up(name)};
    for (count = 0; count < times; count++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        connect(fd, (void *)&in, sizeof in);
        if (count % 10 == 0)
            usleep(100);
        close(fd);
    }
    printf("%d\n", count);
}

int main(int argc, char **argv)
{
    if (argc > 2 && !strcmp(argv[1], "serve"))
        serve(atoi(argv[2]), argc > 3 ? atoi(argv[3]) : 1);
    else if (argc > 2 && !strcmp(argv[1], "flood")) {
        int c = accept(listening(atoi(argv[2])), NULL, NULL);
        signal(SIGPIPE, SIG_IGN);
        while (write(c, big, sizeof big) > 0)
            ;
    } else if (argc > 2 && !strcmp(argv[1], "urgent")) {
        int c = accept(listening(atoi(argv[2])), NULL, NULL);
        for (int i = 0; i < 3; i++)
            send(c, "abc", 3, MSG_OOB);
        send(c, "d", 1, 0);
    } else if (argc > 2 && !strcmp(argv[1], "hold")) {
        int c = accept(listening(atoi(argv[2])), NULL, NULL);
        printf("%d\n", c > 0);
        fflush(stdout);
        pause();
    } else if (argc > 4 && !strcmp(argv[1], "knock"))
        knock(argv[2], atoi(argv[3]), atoi(argv[4]));
    else if (argc > 3 && !strcmp(argv[1], "fetch"))
        fetch(argv[2], atoi(argv[3]), argc > 4 ? argv[4] : "");
    return 0;
}
