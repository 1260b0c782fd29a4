/* Bubble sort of pseudo-random numbers; argument: how many. */
#include "sorting.h"

int guest_main(int argc, char **argv, char **envp UNUSED) {
    u32 n = scale(argc, argv, 60);
    u32 *a = make_numbers(n);
    for (u32 end = n; end > 1; end--)
        for (u32 i = 1; i < end; i++)
            if (a[i - 1] > a[i]) {
                u32 t = a[i];
                a[i] = a[i - 1], a[i - 1] = t;
            }
    return report(a, n);
}
