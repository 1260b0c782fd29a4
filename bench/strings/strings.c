/* Calls a string routine of the C library again and again: strings ROUTINE SIZE CALLS; prints a sum of what it returned.
 * "inline-memcpy" and "inline-memset" are what the compiler makes of those: REP MOVS and REP STOS. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Under these names the compiler does not know them, and calls. */
void *copy(void *, const void *, size_t) __asm__("memcpy");
void *fill(void *, int, size_t) __asm__("memset");
void *find(const void *, int, size_t) __asm__("memchr");
size_t length(const char *) __asm__("strlen");
int compare(const char *, const char *) __asm__("strcmp");

static char *volatile source, *volatile target;

int main(int argc, char **argv) {
    if (argc != 4)
        return 2;
    size_t size = strtoul(argv[2], 0, 10);
    unsigned long calls = strtoul(argv[3], 0, 10), sum = 0;
    source = malloc(size + 1), target = malloc(size + 1);
    memset(source, 'a', size), memset(target, 'a', size);
    source[size] = target[size] = 0;
    if (!strcmp(argv[1], "memcpy"))
        for (unsigned long i = 0; i < calls; i++)
            sum += ((char *)copy(target, source, size))[i & 15];
    else if (!strcmp(argv[1], "inline-memcpy"))
        for (unsigned long i = 0; i < calls; i++)
            sum += ((char *)memcpy(target, source, size))[i & 15];
    else if (!strcmp(argv[1], "memset"))
        for (unsigned long i = 0; i < calls; i++)
            sum += ((char *)fill(target, (int)i, size))[i & 15];
    else if (!strcmp(argv[1], "inline-memset"))
        for (unsigned long i = 0; i < calls; i++)
            sum += ((char *)memset(target, (int)i, size))[i & 15];
    else if (!strcmp(argv[1], "strlen"))
        for (unsigned long i = 0; i < calls; i++)
            sum += length(source);
    else if (!strcmp(argv[1], "memchr"))
        for (unsigned long i = 0; i < calls; i++)
            sum += find(source, 'b', size) == 0;
    else if (!strcmp(argv[1], "strcmp"))
        for (unsigned long i = 0; i < calls; i++)
            sum += compare(source, target) == 0;
    else
        return 2;
    printf("%lu\n", sum);
    return 0;
}
