/* The Mandelbrot set in scalar SSE2 code, N by N points; prints a sum over how soon they escape. */
#pragma GCC target("sse2,fpmath=sse")
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    int n = argc > 1 ? atoi(argv[1]) : 100;
    unsigned long sum = 0;
    for (int row = 0; row < n; row++)
        for (int column = 0; column < n; column++) {
            double cx = -2.2 + 3.2 * column / n, cy = -1.5 + 3.0 * row / n, x = 0, y = 0;
            int steps = 0;
            while (steps < 200 && x * x + y * y < 4.0) {
                double next = x * x - y * y + cx;
                y = 2 * x * y + cy;
                x = next;
                steps++;
            }
            sum = sum * 31 + steps;
        }
    printf("%lu\n", sum);
    return 0;
}
