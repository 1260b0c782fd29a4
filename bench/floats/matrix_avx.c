/* Multiplies two N by N matrices of doubles, four elements at a time with AVX2 and FMA; prints a sum of the product. */
#pragma GCC target("avx2,fma,fpmath=sse")
#include <stdio.h>
#include <stdlib.h>

typedef double four __attribute__((vector_size(32), aligned(8), may_alias));

int main(int argc, char **argv) {
    int n = (argc > 1 ? atoi(argv[1]) : 100) & ~3;
    double *a = malloc(sizeof(double) * n * n), *b = malloc(sizeof(double) * n * n), *c = calloc(n * n, sizeof(double));
    for (int i = 0; i < n * n; i++)
        a[i] = i % 97 / 7.0, b[i] = i % 89 / 11.0;
    for (int i = 0; i < n; i++)
        for (int k = 0; k < n; k++) {
            double factor = a[i * n + k];
            for (int j = 0; j < n; j += 4)
                *(four *)(c + i * n + j) += factor * *(four *)(b + k * n + j);
        }
    double sum = 0;
    for (int i = 0; i < n * n; i++)
        sum += c[i] * (i % 13);
    printf("%.17g\n", sum);
    return 0;
}
