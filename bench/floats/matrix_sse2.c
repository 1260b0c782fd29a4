/* Multiplies two N by N matrices of doubles, two elements at a time in SSE2 registers; prints a sum of the product. */
#pragma GCC target("sse2,fpmath=sse")
#include <emmintrin.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    int n = (argc > 1 ? atoi(argv[1]) : 100) & ~1;
    double *a = malloc(sizeof(double) * n * n), *b = malloc(sizeof(double) * n * n), *c = calloc(n * n, sizeof(double));
    for (int i = 0; i < n * n; i++)
        a[i] = i % 97 / 7.0, b[i] = i % 89 / 11.0;
    for (int i = 0; i < n; i++)
        for (int k = 0; k < n; k++) {
            __m128d factor = _mm_set1_pd(a[i * n + k]);
            for (int j = 0; j < n; j += 2) {
                __m128d sum = _mm_add_pd(_mm_loadu_pd(c + i * n + j), _mm_mul_pd(factor, _mm_loadu_pd(b + k * n + j)));
                _mm_storeu_pd(c + i * n + j, sum);
            }
        }
    double sum = 0;
    for (int i = 0; i < n * n; i++)
        sum += c[i] * (i % 13);
    printf("%.17g\n", sum);
    return 0;
}
