/* Threads that wait for microseconds, sendfile to sockets, small socket buffers, and what /proc/PID is good for. */
#include "calls.h"
#include <netinet/in.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t never = PTHREAD_COND_INITIALIZER;
static volatile int done;

static void *spins(void *unused)
{
    struct timespec until;
    pthread_mutex_lock(&mutex);
    while (!done) {
        clock_gettime(CLOCK_REALTIME, &until);
        pthread_cond_timedwait(&never, &mutex, &until);
    }
    pthread_mutex_unlock(&mutex);
    return NULL;
}

static void microseconds(void)
{
    pthread_t thread;
    pthread_create(&thread, NULL, spins, NULL);
    for (int i = 0; i < 20; i++) {
        usleep(100);
        pthread_mutex_lock(&mutex);
        done = i == 19;
        pthread_mutex_unlock(&mutex);
    }
    R(pthread_join(thread, NULL));
}

static void directories(void)
{
    char path[40];
    on(SIGUSR1, 0);
    int self = open("/proc/self", O_RDONLY | O_DIRECTORY), other = open("/proc", O_RDONLY | O_DIRECTORY);
    int task = open("/proc/self/task", O_RDONLY | O_DIRECTORY), pathed = open("/proc/self", O_PATH);
    count = 0;
    R(syscall(SYS_pidfd_send_signal, self, SIGUSR1, NULL, 0));
    R(count);
    R(syscall(SYS_pidfd_send_signal, other, SIGUSR1, NULL, 0));
    R(syscall(SYS_pidfd_send_signal, task, SIGUSR1, NULL, 0));
    R(syscall(SYS_pidfd_send_signal, pathed, SIGUSR1, NULL, 0));
    R(syscall(SYS_pidfd_getfd, self, 0, 0));
    pid_t pid = fork();
    if (!pid)
        _exit(3);
    sprintf(path, "/proc/%d", pid);
    int child = open(path, O_RDONLY | O_DIRECTORY);
    ended(pid);
    R(syscall(SYS_pidfd_send_signal, child, 0, NULL, 0));
    close(self), close(other), close(task), close(pathed), close(child);
}

static void shown(void)
{
    sigset_t set;
    char line[200];
    sigemptyset(&set), sigaddset(&set, SIGUSR2), sigaddset(&set, SIGRTMAX);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGHUP, SIG_IGN), signal(SIGWINCH, SIG_IGN), on(SIGTERM, 0), on(SIGRTMIN + 3, SA_RESTART);
    signal(SIGTERM, SIG_DFL);
    raise(SIGUSR2), kill(getpid(), SIGRTMAX);
    FILE *status = fopen("/proc/self/status", "r");
    while (fgets(line, sizeof line, status))
        if (!strncmp(line, "Sig", 3) && strncmp(line, "SigQ", 4) || !strncmp(line, "Shd", 3))
            fputs(line, stdout);
    fclose(status);
}

static void files_to_sockets(void)
{
    int pair[2], file = open("sent", O_RDWR | O_CREAT, 0600);
    off_t at = 2;
    R(write(file, "0123456789", 10));
    R(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    R(sendfile(pair[0], file, &at, 4));
    R(at);
    R(lseek(file, 0, SEEK_SET));
    R(sendfile(pair[0], file, NULL, 100));
    R(lseek(file, 0, SEEK_CUR));
    R(sendfile(pair[0], file, NULL, 100));
    R(read(pair[1], buffer, 100));
    buffer[14] = 0;
    printf("%s\n", buffer);
    R(ftruncate(file, 1 << 20));
    fcntl(pair[0], F_SETFL, O_NONBLOCK);
    at = 0;
    R(sendfile(pair[0], file, &at, 1 << 20) == at && at > 0 && at < 1 << 20);
    R(sendfile(pair[0], file, &at, 1 << 20));
    R(sendfile(file, pair[0], NULL, 10));
    close(pair[1]);
    on(SIGPIPE, 0);
    count = 0;
    R(sendfile(pair[0], file, &at, 10));
    R(count);
    close(pair[0]), close(file);
}

/* A connection with buffers of `sent` and `received` bytes is filled, is not writable, and is so again when all is read. */
static void small_buffers(int sent, int received)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    int server = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct pollfd ready = {client, POLLOUT, 0};
    bind(server, (void *)&at, sizeof at);
    getsockname(server, (void *)&at, &size);
    R(setsockopt(server, SOL_SOCKET, SO_RCVBUF, &received, sizeof received));
    R(listen(server, 1));
    connect(client, (void *)&at, sizeof at);
    int other = accept(server, NULL, NULL);
    R(setsockopt(client, SOL_SOCKET, SO_SNDBUF, &sent, sizeof sent));
    fcntl(other, F_SETFL, O_NONBLOCK);
    for (int quiet = 0; quiet < 5; usleep(2000))
        quiet = send(client, buffer, sizeof buffer, 0) > 0 ? 0 : quiet + 1;
    R(poll(&ready, 1, 0));
    for (int quiet = 0; quiet < 5; usleep(2000))
        quiet = recv(other, buffer, sizeof buffer, 0) > 0 ? 0 : quiet + 1;
    R(poll(&ready, 1, 1000));
    R(ready.revents);
    close(server), close(client), close(other);
}

int main(void)
{
    begin();
    microseconds();
    directories();
    files_to_sockets();
    small_buffers(4096, 4096);
    small_buffers(1, 1);
    small_buffers(30000, 4096);
    shown();
    return 0;
}
