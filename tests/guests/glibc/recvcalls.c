/* recv(2) and send(2) by socketcall(2) that wait: what ends them, where the bytes go, and what was read of the arguments. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/net.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

static unsigned words[4];
static char first[300000], second[300000];
static int result, number;

static int socketcall(int call, unsigned fd, void *buffer, unsigned n, unsigned flags)
{
    unsigned own[4] = { fd, (unsigned)buffer, n, flags };
    return syscall(SYS_socketcall, call, own);
}
static void pair(int kind, int ends[2])
{
    if (kind) {
        socketpair(AF_UNIX, kind == 2 ? SOCK_SEQPACKET : SOCK_STREAM, 0, ends);
        return;
    }
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof to;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    bind(listener, (void *)&to, sizeof to);
    listen(listener, 1);
    getsockname(listener, (void *)&to, &size);
    ends[1] = socket(AF_INET, SOCK_STREAM, 0);
    connect(ends[1], (void *)&to, sizeof to);
    ends[0] = accept(listener, NULL, NULL);
    close(listener);
}
static void caught(int n) { (void)n; }
static void *receive(void *call)
{
    result = syscall(SYS_socketcall, (int)call, words);
    number = result < 0 ? errno : 0;
    return NULL;
}
/* A thread that is in recv(2) with the words. */
static pthread_t begin(unsigned fd, void *buffer, unsigned n, unsigned flags)
{
    pthread_t thread;
    words[0] = fd, words[1] = (unsigned)buffer, words[2] = n, words[3] = flags;
    memset(first, '-', 64), memset(second, '-', 64);
    pthread_create(&thread, NULL, receive, (void *)SYS_RECV);
    usleep(20000);
    return thread;
}
static void end(const char *what, pthread_t thread)
{
    pthread_join(thread, NULL);
    printf("%s: %d %s first %.12s second %.12s\n", what, result, number ? strerrorname_np(number) : "", first, second);
}

static void streams(const char *name, int kind)
{
    int ends[2], other, status;
    pthread_t thread, more;
    struct sigaction action = { .sa_handler = caught };

    printf("-- %s\n", name);
    pair(kind, ends);
    thread = begin(ends[0], first, 10, 0);
    printf("sent %d\n", socketcall(SYS_SEND, ends[1], "abcdefghijklmnopqrst", 20, 0));
    end("fewer than came", thread);
    thread = begin(ends[0], first, 100, 0);
    end("the rest", thread);

    thread = begin(ends[0], first, 10, 0);
    words[0] = 99, words[1] = (unsigned)second, words[2] = 3;
    socketcall(SYS_SEND, ends[1], "changed", 7, 0);
    end("arguments changed", thread);

    thread = begin(ends[0], first, 10, 0);
    other = open("/dev/null", O_RDONLY);
    int kept = dup(ends[0]);
    dup2(other, ends[0]);
    socketcall(SYS_SEND, ends[1], "replaced", 8, 0);
    end("descriptor replaced", thread);
    dup2(kept, ends[0]);
    close(kept), close(other);

    thread = begin(ends[0], (void *)8, 10, 0);
    socketcall(SYS_SEND, ends[1], "nowhere", 7, 0);
    end("bad address", thread);
    printf("still there %d\n", (int)recv(ends[0], first, 100, MSG_DONTWAIT));
    char *half = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(half + 4096, 4096, PROT_NONE);
    thread = begin(ends[0], half + 4092, 10, 0);
    socketcall(SYS_SEND, ends[1], "halfway", 7, 0);
    end("half of it bad", thread);
    printf("%.4s then %d\n", half + 4092, (int)recv(ends[0], first, 100, MSG_DONTWAIT));

    thread = begin(ends[0], first, sizeof first, 0);
    memset(second, 'x', sizeof second);
    printf("large sent %d\n", socketcall(SYS_SEND, ends[1], second, 70000, 0));
    pthread_join(thread, NULL);
    for (status = result; status < 70000; status += other)
        if ((other = recv(ends[0], first, sizeof first, 0)) <= 0)
            break;
    printf("all came %d\n", status);

    thread = begin(ends[0], first, 10, MSG_WAITALL);
    socketcall(SYS_SEND, ends[1], "12345", 5, 0);
    usleep(10000);
    socketcall(SYS_SEND, ends[1], "67890", 5, 0);
    end("MSG_WAITALL", thread);
    thread = begin(ends[0], first, 10, MSG_PEEK);
    socketcall(SYS_SEND, ends[1], "peek", 4, 0);
    end("MSG_PEEK", thread);
    thread = begin(ends[0], first, 10, 0);
    end("again", thread);

    sigaction(SIGUSR1, &action, NULL);
    thread = begin(ends[0], first, 10, 0);
    pthread_kill(thread, SIGUSR1);
    end("a signal", thread);
    action.sa_flags = SA_RESTART;
    sigaction(SIGUSR1, &action, NULL);
    thread = begin(ends[0], first, 10, 0);
    words[1] = (unsigned)second;
    pthread_kill(thread, SIGUSR1);
    usleep(20000);
    socketcall(SYS_SEND, ends[1], "restarted", 9, 0);
    end("SA_RESTART", thread);

    struct timeval soon = { 0, 30000 };
    setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon);
    thread = begin(ends[0], first, 10, 0);
    end("SO_RCVTIMEO", thread);
    soon.tv_usec = 0;
    setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon);
    int least = 4;
    setsockopt(ends[0], SOL_SOCKET, SO_RCVLOWAT, &least, sizeof least);
    thread = begin(ends[0], first, 10, 0);
    socketcall(SYS_SEND, ends[1], "ab", 2, 0);
    usleep(20000);
    socketcall(SYS_SEND, ends[1], "cd", 2, 0);
    pthread_join(thread, NULL);
    printf("SO_RCVLOWAT: %d\n", kind ? 0 : result);
    while (recv(ends[0], first, 10, MSG_DONTWAIT) > 0)
        ;
    least = 1;
    setsockopt(ends[0], SOL_SOCKET, SO_RCVLOWAT, &least, sizeof least);

    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    thread = begin(ends[0], first, 10, 0);
    end("O_NONBLOCK", thread);
    fcntl(ends[0], F_SETFL, 0);

    thread = begin(ends[0], first, 4, 0);
    pthread_create(&more, NULL, receive, (void *)SYS_RECV);
    usleep(20000);
    socketcall(SYS_SEND, ends[1], "onetwo88", 8, 0);
    pthread_join(thread, NULL);
    pthread_join(more, NULL);
    printf("two that wait: %d %.4s\n", result, first);

    for (int i = 0, total = 0; i < 3000; i++) {
        char c = i;
        thread = 0;
        if (i % 500 == 0)
            thread = begin(ends[0], first, 1 + i % 3, 0);
        socketcall(SYS_SEND, ends[1], &c, 1, 0);
        if (thread)
            pthread_join(thread, NULL), total += result;
        else
            total += socketcall(SYS_RECV, ends[0], first, 5, 0);
        if (i == 2999 || (unsigned char)first[0] != (unsigned char)c)
            printf("%d: %d in all, last %d\n", i, total, (unsigned char)first[0]);
    }

    thread = begin(ends[0], first, 10, 0);
    shutdown(ends[1], SHUT_WR);
    end("the other end", thread);
    thread = begin(ends[0], first, 10, 0);
    end("after the end", thread);
    printf("send back %d\n", socketcall(SYS_SEND, ends[0], "x", 1, 0));
    thread = begin(ends[1], first, 10, 0);
    end("and there", thread);
    close(ends[0]), close(ends[1]);
    thread = begin(ends[0], first, 10, 0);
    end("closed", thread);
    munmap(half, 8192);
}

int main(void)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    signal(SIGPIPE, SIG_IGN);
    streams("tcp", 0);
    streams("unix stream", 1);
    return 0;
}
