/* Calls a string routine of the C library again and again: strings ROUTINE SIZE CALLS; prints a sum of what it returned. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
            sum += ((char *)memcpy(target, source, size))[i % size];
    else if (!strcmp(argv[1], "memset"))
        for (unsigned long i = 0; i < calls; i++)
            sum += ((char *)memset(target, (int)i, size))[i % size];
    else if (!strcmp(argv[1], "strlen"))
        for (unsigned long i = 0; i < calls; i++)
            sum += strlen(source);
    else if (!strcmp(argv[1], "memchr"))
        for (unsigned long i = 0; i < calls; i++)
            sum += memchr(source, 'b', size) == 0;
    else if (!strcmp(argv[1], "strcmp"))
        for (unsigned long i = 0; i < calls; i++)
            sum += strcmp(source, target) == 0;
    else
        return 2;
    printf("%lu\n", sum);
    return 0;
}
