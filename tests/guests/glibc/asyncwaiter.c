/* Reads or writes descriptor argv[1] to its end, then waits for signals of it (O_ASYNC). */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    int fd = atoi(argv[1]);
    char data[10];
    sigset_t set;
    sigemptyset(&set), sigaddset(&set, SIGIO), sigprocmask(SIG_BLOCK, &set, NULL);
    fcntl(fd, F_SETOWN, getpid()), fcntl(fd, F_SETFL, O_ASYNC);
    if (fd)
        write(fd, "x", 1);
    else
        while (read(fd, data, sizeof data) > 0)
            ;
    for (;;)
        sigwaitinfo(&set, NULL);
}
