/* Product of two matrices of doubles on the x87; argument: their size. Prints sums scaled to whole numbers. */
#include "guest.h"

int guest_main(int argc, char **argv, char **envp UNUSED) {
    u32 n = scale(argc, argv, 12);
    double *a = allocate(n * n * 8), *b = allocate(n * n * 8), *c = allocate(n * n * 8);
    double trace = 0, total = 0;
    if (!a || !b || !c) fail("no memory\n");
    for (u32 i = 0; i < n * n; i++) a[i] = (double)(i32)(i % 17) / 4 - 2, b[i] = 1.0 / (double)(i32)(i % 13 + 1);
    for (u32 i = 0; i < n; i++)
        for (u32 j = 0; j < n; j++) {
            double sum = 0;
            for (u32 k = 0; k < n; k++) sum += a[i * n + k] * b[k * n + j];
            c[i * n + j] = sum;
            total += sum;
            if (i == j) trace += sum;
        }
    put("trace "), put_int((i32)(trace * 1000)), put(" sum "), put_int((i32)(total * 1000)), put(" of 1000ths\n");
    return 0;
}
