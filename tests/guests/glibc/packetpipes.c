/* Pipes of packets (O_DIRECT): what bounds reads keep, and what a packet costs of the room. */
#include "calls.h"
#include <sys/ioctl.h>
#include <sys/socket.h>

static void *reader(void *ends)
{
    R(read(*(int *)ends, buffer, 2)), R(buffer[1]);
    return ends;
}

int main(void)
{
    int p[2], q[2], s[2], n;
    R(pipe2(p, O_DIRECT)), R(fcntl(p[0], F_GETFL)), R(fcntl(p[1], F_GETFL));
    R(write(p[1], "abc", 3)), R(write(p[1], "defgh", 5)), R(write(p[1], "", 0));
    R(ioctl(p[0], FIONREAD, &n)), R(n);
    R(read(p[0], buffer, 2)), R(buffer[0]), R(read(p[0], buffer, 100)), R(buffer[0]), R(ioctl(p[0], FIONREAD, &n)), R(n);
    R(fcntl(p[0], F_SETFL, O_NONBLOCK)), R(read(p[0], buffer, 100)), R(read(p[0], buffer, 0));
    memset(big, 'x', sizeof big);
    R(write(p[1], big, 10000)), R(read(p[0], buffer, 20000)), R(read(p[0], buffer, 20000)), R(read(p[0], buffer, 20000)), R(read(p[0], buffer, 20000));
    R(fcntl(p[1], F_SETFL, O_NONBLOCK | O_DIRECT));
    for (n = 0; write(p[1], "a", 1) == 1; n++)
        ;
    R(n);
    struct pollfd both[] = {{p[0], POLLIN}, {p[1], POLLOUT}};
    R(poll(both, 2, 0)), R(read(p[0], buffer, 100)), R(poll(both, 2, 0)), R(write(p[1], "b", 1)), R(write(p[1], "b", 1));
    while (read(p[0], buffer, 100) > 0)
        ;
    struct iovec parts[] = {{big, 1}, {big + 1, 1}, {big + 2, 5}};
    R(write(p[1], "1", 1)), R(write(p[1], "2", 1)), R(write(p[1], "1234567", 7)), R(write(p[1], "12345678", 8));
    R(readv(p[0], parts, 3)), R(readv(p[0], parts, 3)), R(readv(p[0], parts, 3)), R(readv(p[0], parts, 3)), R(readv(p[0], parts, 3));
    R(write(p[1], big, 100000)), R(read(p[0], buffer, 100000)), R(read(p[0], buffer, 0)), R(read(p[0], buffer, 5)), R(read(p[0], buffer, 100000));
    R(write(p[1], big, 100000)), R(fcntl(p[1], F_SETPIPE_SZ, 4096)), R(fcntl(p[1], F_SETPIPE_SZ, 1 << 17)), R(write(p[1], big, 1 << 20));
    while (read(p[0], buffer, 10000) > 0)
        ;
    R(write(p[1], "abc", 3)), R(read(p[0], (void *)1, 10)), R(write(p[1], (void *)1, 10)), R(read(p[0], buffer, 10)), R(read(p[0], buffer, 10));
    pthread_t thread;
    R(fcntl(p[0], F_SETFL, 0));
    pthread_create(&thread, NULL, reader, p), usleep(20000);
    write(p[1], "lost", 4), pthread_join(thread, NULL);
    R(fcntl(p[0], F_SETFL, O_NONBLOCK)), R(read(p[0], buffer, 10));
    R(pipe2(q, O_NONBLOCK)), R(write(q[1], "xy", 2)), R(splice(q[0], NULL, p[1], NULL, 10, 0)), R(read(p[0], buffer, 10));
    R(close(p[1])), R(read(p[0], buffer, 10)), R(read(p[0], buffer, 10));
    R(pipe2(p, O_DIRECT)), R(close(p[0])), signal(SIGPIPE, SIG_IGN), R(write(p[1], "a", 1));
    R(socketpair(AF_UNIX, SOCK_STREAM, 0, s)), R(fcntl(s[0], F_SETFL, O_DIRECT)), R(fcntl(open("/dev/null", O_RDWR), F_SETFL, O_DIRECT));
    R(pipe2(p, 0x10)), R(pipe2(p, O_DIRECT | O_CLOEXEC | O_NONBLOCK)), R(fcntl(p[0], F_GETFL)), R(fcntl(p[1], F_GETFL));
    return 0;
}
