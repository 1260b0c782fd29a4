/* Mappings of a file that is given from outside, while others write it, shorten it and map it again (mmap(2)).
   argv[1]: a file of at least 3 pages. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static sigjmp_buf back;
static void on_bus(int signo) { siglongjmp(back, signo); }

static int reads(volatile unsigned char *p) {
    int signo = sigsetjmp(back, 1);
    return signo ? -signo : *p;
}

int main(int argc, char **argv) {
    (void)argc;
    signal(SIGBUS, on_bus);
    signal(SIGSEGV, on_bus);
    int fd = open(argv[1], O_RDONLY);
    unsigned char *shared = mmap(0, 5 * 4096, PROT_READ, MAP_SHARED, fd, 0);
    unsigned char *private = mmap(0, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    printf("read %d %d %d past the end %d\n", reads(shared), reads(shared + 4096), reads(private + 8192), reads(shared + 4 * 4096));
    private[10] = 99;
    printf("private store %d shared %d\n", reads(private + 10), reads(shared + 10));
    printf("mprotect write on a read-only shared mapping %d\n", mprotect(shared, 4096, PROT_READ | PROT_WRITE));
    pid_t child = fork();
    if (!child) {
        int w = open(argv[1], O_RDWR);
        pwrite(w, "\x55", 1, 20);
        unsigned char *m = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, w, 4096);
        m[0] = 0x66;
        _exit(0);
    }
    waitpid(child, 0, 0);
    printf("after writes by another: shared %d %d, private written page %d\n", reads(shared + 20), reads(shared + 4096), reads(private + 10));
    unsigned char *again = mmap(0, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
    printf("mapped anew %d\n", reads(again + 20));
    truncate(argv[1], 4096 + 100);
    printf("shortened: %d %d %d\n", reads(shared + 20), reads(shared + 4096 + 200), reads(shared + 2 * 4096));
    truncate(argv[1], 2 * 4096 + 1);
    printf("longer: %d %d\n", reads(shared + 2 * 4096), reads(shared + 4096 + 50));
    return 0;
}
