/* Urgent data of TCP: MSG_OOB, SO_OOBINLINE, SIOCATMARK, and what poll(2) and FIONREAD say of it. */
#include "calls.h"
#include "net.h"
#include <linux/sockios.h>

static int client, server;

static void join(void)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof in;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    bind(listener, (void *)&in, sizeof in);
    listen(listener, 5);
    getsockname(listener, (void *)&in, &size);
    client = socket(AF_INET, SOCK_STREAM, 0);
    connect(client, (void *)&in, sizeof in);
    set(client, IPPROTO_TCP, TCP_NODELAY, 1);
    server = accept(listener, NULL, NULL);
    close(listener);
}

static void part(void)
{
    close(client);
    close(server);
}

/* What was sent has come: the receiver has said so. */
static void arrived(void)
{
    int left = 1;
    usleep(20000);
    while (!ioctl(client, SIOCOUTQ, &left) && left)
        usleep(1000);
}

static void get(int flags, int n)
{
    memset(buffer, 0, 100);
    errno = 0;
    int got = recv(server, buffer, n, flags | MSG_DONTWAIT);
    int mark = -1, left = -1;
    ioctl(server, SIOCATMARK, &mark);
    ioctl(server, FIONREAD, &left);
    printf("recv %#x of %d: %d '%s' %s; mark %d left %d\n", flags, n, got, got > 0 ? buffer : "",
           got < 0 ? strerrorname_np(errno) : "", mark, left);
}

static void give(const char *text, int flags)
{
    printf("send %s %#x = %d\n", text, flags, (int)send(client, text, strlen(text), flags));
    arrived();
}

static void beside(void)
{
    join();
    get(MSG_OOB, 5);
    give("abc", 0);
    polled("plain", server);
    get(MSG_OOB, 5);
    give("def", MSG_OOB);
    polled("urgent", server);
    get(MSG_OOB | MSG_PEEK, 5);
    get(MSG_OOB, 0);
    polled("after nothing", server);
    get(MSG_OOB, 5);
    give("ghi", 0);
    get(MSG_PEEK, 50);
    get(0, 2);
    get(0, 50);
    polled("at the mark", server);
    get(MSG_PEEK, 50);
    get(0, 50);
    polled("behind", server);
    get(0, 50);
    give("x", MSG_OOB);
    polled("alone", server);
    get(MSG_OOB, 5);
    polled("alone and taken", server);
    get(0, 5);
    give("y", MSG_OOB);
    get(0, 5);
    get(MSG_OOB, 5);
    give("z", MSG_OOB);
    get(MSG_WAITALL, 5);
    part();
}

static void twice(void)
{
    join();
    give("ab", MSG_OOB);
    give("cd", MSG_OOB);
    get(MSG_OOB, 5);
    get(0, 50);
    get(0, 50);
    give("ef", MSG_OOB);
    get(0, 50);
    give("gh", 0);
    give("ij", MSG_OOB);
    get(0, 50);
    get(MSG_OOB, 50);
    get(0, 50);
    give("k", MSG_OOB);
    give("l", MSG_OOB);
    give("m", 0);
    get(0, 50);
    get(0, 50);
    part();
}

static void in_line(void)
{
    join();
    R(option(server, SOL_SOCKET, SO_OOBINLINE));
    R(set(server, SOL_SOCKET, SO_OOBINLINE, 1));
    R(option(server, SOL_SOCKET, SO_OOBINLINE));
    give("abc", MSG_OOB);
    give("def", 0);
    polled("in line", server);
    get(MSG_OOB, 5);
    get(0, 50);
    polled("in line, at the mark", server);
    get(MSG_PEEK, 50);
    get(0, 50);
    polled("in line, behind", server);
    give("g", MSG_OOB);
    polled("in line, alone", server);
    get(0, 50);
    part();
}

static void messages(void)
{
    struct iovec part1 = {buffer, 50};
    struct msghdr m = {.msg_iov = &part1, .msg_iovlen = 1};
    char name[128];
    struct sockaddr_storage from;
    socklen_t size = sizeof from;
    join();
    give("abc", MSG_OOB);
    R(recvmsg(server, &m, MSG_OOB | MSG_DONTWAIT));
    R(m.msg_flags);
    R(recvmsg(server, &m, MSG_OOB | MSG_DONTWAIT));
    R(recvfrom(server, name, 50, MSG_WAITALL, (void *)&from, &size));
    give("abcd", MSG_OOB);
    R(read(server, name, 50));
    R(ioctl(server, SIOCATMARK, (void *)8));
    close(client);
    arrived();
    polled("ended at the mark", server);
    get(MSG_OOB, 5);
    get(0, 50);
    get(MSG_OOB, 5);
    get(0, 50);
    close(server);
    join();
    give("abc", MSG_OOB);
    shutdown(client, SHUT_WR);
    arrived();
    get(0, 50);
    get(0, 50);
    R(send(client, "x", 1, MSG_OOB | MSG_NOSIGNAL));
    R(recv(client, name, 5, MSG_OOB | MSG_DONTWAIT));
    part();
    int new = socket(AF_INET, SOCK_STREAM, 0), dgram = socket(AF_INET, SOCK_DGRAM, 0);
    R(recv(new, name, 5, MSG_OOB | MSG_DONTWAIT));
    R(send(new, name, 5, MSG_OOB | MSG_NOSIGNAL));
    R(send(dgram, name, 5, MSG_OOB));
    close(new);
    close(dgram);
}

/* Who waits for more gets what came before the mark. */
static void waiting(void)
{
    join();
    pid_t pid = fork();
    if (!pid) {
        usleep(30000);
        send(client, "abc", 3, 0);
        usleep(30000);
        send(client, "def", 3, MSG_OOB);
        usleep(30000);
        send(client, "ghi", 3, 0);
        _exit(0);
    }
    memset(buffer, 0, 100);
    R(recv(server, buffer, 50, MSG_WAITALL));
    printf("%s\n", buffer);
    struct pollfd p = {server, POLLPRI, 0};
    R(poll(&p, 1, 1000));
    R(p.revents);
    R(recv(server, buffer, 3, MSG_WAITALL));
    printf("%s\n", buffer);
    waitpid(pid, NULL, 0);
    part();
}

int main(void)
{
    begin();
    beside();
    twice();
    in_line();
    messages();
    waiting();
    return 0;
}
