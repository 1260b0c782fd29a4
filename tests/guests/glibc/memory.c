/* malloc, realloc and free in sizes from bytes to megabytes (brk and mmap), qsort and bsearch over them. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int order(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

int main(void) {
    enum { N = 2000 };
    uint32_t seed = 1, sum = 0, *numbers = malloc(N * sizeof *numbers);
    unsigned char *p[64] = {0};
    size_t size[64] = {0};
    for (int i = 0; i < 500; i++) {
        unsigned k = (seed = seed * 1664525 + 1013904223) >> 26;
        size_t wanted = (seed >> 8 & 0xfff) << (k % 4 ? 0 : 7);
        unsigned char *q = realloc(p[k], wanted + 1);
        if (!q) return 1;
        if (p[k] && q[0] != k) return 2;
        p[k] = q, size[k] = wanted;
        q[0] = (unsigned char)k, q[wanted] = (unsigned char)k;
    }
    for (int k = 0; k < 64; k++) sum += size[k], free(p[k]);
    for (int i = 0; i < N; i++) numbers[i] = (seed = seed * 1664525 + 1013904223) >> 4;
    qsort(numbers, N, sizeof *numbers, order);
    for (int i = 1; i < N; i++)
        if (numbers[i - 1] > numbers[i]) return 3;
    uint32_t *found = bsearch(&numbers[700], numbers, N, sizeof *numbers, order);
    printf("%u bytes, %d numbers, found at %d\n", sum, N, found ? (int)(found - numbers) : -1);
    void *huge = malloc(3500u << 20);
    printf("3500 MiB: %s\n", huge ? "given" : "refused");
    return 0;
}
