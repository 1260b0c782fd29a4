/* printf, scanf and strtol in many forms, 64-bit arithmetic included; exit status through atexit and return. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void last(void) { puts("at exit"); }

int main(int argc, char **argv) {
    char word[32];
    int n;
    uint64_t big = 0x123456789abcdef0ull;
    atexit(last);
    for (int i = 1; i < argc; i++) printf("[%s] %zu\n", argv[i], strlen(argv[i]));
    printf("%d %5d|%-5d|%05d %x %#X %o %c %s %.3s %p\n", -1, 42, 42, 42, 255, 255, 8, 'x', "abc", "abcdef", (void *)0);
    printf("%" PRIu64 " %" PRId64 " %" PRIx64 "\n", big, -(int64_t)big, big / 1000003);
    printf("%" PRIu64 " %" PRIu64 " %lld\n", big % 1000003, big * 31, (long long)big >> 7);
    while (scanf("%31s %d", word, &n) == 2) printf("%s=%d\n", word, n);
    printf("%ld %lu %s\n", strtol("-0x7f", NULL, 0), strtoul("777", NULL, 8), getenv("HOME"));
    return 3;
}
