/* A core dump of much memory: what else runs meanwhile, what ends it, and what is in it. "bigcore MIB". */
#include "calls.h"
#include <elf.h>

static volatile unsigned *ticks;
static char *memory;
static long bytes;

static void *spins(void *argument)
{
    for (;;)
        (*ticks)++;
    return argument;
}

/* A child with `bytes` of memory, half of it touched, that `signal` ends. */
static pid_t grows(int signal)
{
    struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};
    int ready[2];
    pthread_t thread;
    pipe(ready), unlink("core"), *ticks = 0;
    pid_t pid = fork();
    if (!pid) {
        setrlimit(RLIMIT_CORE, &all);
        memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        for (long at = 0; at < bytes / 2; at += 4096)
            memory[at] = 1 + at / 4096 % 100;
        pthread_create(&thread, NULL, spins, NULL);
        while (!*ticks)
            usleep(1000);
        write(ready[1], &memory, sizeof memory), raise(signal);
    }
    read(ready[0], &memory, sizeof memory), close(ready[0]), close(ready[1]);
    return pid;
}

static void looks(void)
{
    Elf32_Ehdr head;
    Elf32_Phdr header;
    int fd = open("core", O_RDONLY), same = 0, zeros = 0, n;
    pread(fd, &head, sizeof head, 0);
    for (n = 0; n < head.e_phnum; n++) {
        pread(fd, &header, sizeof header, head.e_phoff + n * sizeof header);
        if (header.p_vaddr <= (unsigned long)memory && (unsigned long)memory + bytes <= header.p_vaddr + header.p_memsz)
            for (long at = 0; at < bytes; at += 1 << 18)
                pread(fd, buffer, 2, header.p_offset + (unsigned long)memory - header.p_vaddr + at), same += buffer[0] == (at < bytes / 2 ? 1 + at / 4096 % 100 : 0), zeros += !buffer[1];
    }
    R(same == bytes >> 18), R(zeros == bytes >> 18), close(fd);
}

int main(int argc, char **argv)
{
    struct stat s;
    int status;
    begin(), bytes = (argc > 1 ? atol(argv[1]) : 8) << 20;
    ticks = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pid = grows(SIGQUIT);
    R(waitpid(pid, &status, 0) == pid), R(WTERMSIG(status)), R(!!WCOREDUMP(status)), R(stat("core", &s)), R(s.st_size > bytes), R(s.st_blocks * 512L > bytes / 2 && s.st_blocks * 512L < bytes), looks();
    pid = grows(SIGABRT);
    while (waitpid(pid, &status, WNOHANG) != pid)
        kill(pid, SIGTERM), kill(pid, SIGCONT), sched_yield();
    R(WTERMSIG(status)), R(!!WCOREDUMP(status)), looks();
    pid = grows(SIGSEGV);
    while (stat("core", &s) || !s.st_size)
        sched_yield();
    R(kill(pid, SIGKILL)), R(waitpid(pid, &status, 0) == pid), R(WTERMSIG(status) == SIGSEGV || WTERMSIG(status) == SIGKILL);
    return 0;
}
