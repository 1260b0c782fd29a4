/* A ring of two (seed, rounds, number, as talker.c): the first is told by SIGIO of what comes and of room, with a seed not before the
   end; and then tells how often it was. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static volatile sig_atomic_t came, room;

static void handler(int number, siginfo_t *info, void *context)
{
    (void)number, (void)context;
    if (info->si_fd == 0)
        came++;
    else
        room++;
}

int main(int count, char **args)
{
    int rounds = count > 3 ? atoi(args[2]) : 0, first = rounds && !atoi(args[3]);
    char byte = 'x';
    sigset_t told;
    if (first) {
        struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_RESTART};
        sigaction(SIGRTMIN, &action, NULL);
        sigemptyset(&told), sigaddset(&told, SIGRTMIN);
        if (atoi(args[1]))
            sigprocmask(SIG_BLOCK, &told, NULL);
        for (int fd = 0; fd < 2; fd++) {
            fcntl(fd, F_SETSIG, SIGRTMIN), fcntl(fd, F_SETOWN, getpid());
            fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_ASYNC);
        }
        write(1, &byte, 1);
    }
    for (int n = 0; n < rounds; n++)
        if (read(0, &byte, 1) != 1 || ((!first || n < rounds - 1) && write(1, &byte, 1) != 1))
            return 1;
    if (first)
        sigprocmask(SIG_UNBLOCK, &told, NULL);
    fprintf(stderr, "%d %d\n", came >= rounds, room >= rounds - 1);
    return 0;
}
