/* Where things are: stack, break, a mapping, the vdso; with "fixed" again after an execve without randomness. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <unistd.h>

int main(int count, char **args)
{
    char value[4] = "";
    if (count > 1) {
        personality(ADDR_NO_RANDOMIZE);
        args[1] = NULL;
        return execv("/proc/self/exe", args), 1;
    }
    if (read(open("/proc/sys/kernel/randomize_va_space", O_RDONLY), value, 3) < 1)
        return 1;
    printf("%p %p %p %p %c\n", (void *)value, sbrk(0), mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
           (void *)getauxval(AT_SYSINFO_EHDR), value[0]);
    return 0;
}
