/* Three products of two N by N matrices of double; prints the sum of the last one's elements. */
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    int n = argc > 1 ? atoi(argv[1]) : 60;
    double *a = malloc(n * n * sizeof *a), *b = malloc(n * n * sizeof *b), *c = malloc(n * n * sizeof *c), sum = 0;
    for (int i = 0; i < n * n; i++) {
        a[i] = i % 17 * 0.25;
        b[i] = i % 13 / 7.0;
    }
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < n; i++)
            for (int j = 0; j < n; j++) {
                double element = 0;
                for (int k = 0; k < n; k++)
                    element += a[i * n + k] * b[k * n + j];
                c[i * n + j] = element + round;
            }
    for (int i = 0; i < n * n; i++)
        sum += c[i];
    printf("%.17g\n", sum);
    return 0;
}
