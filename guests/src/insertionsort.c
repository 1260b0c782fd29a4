/* Insertion sort of pseudo-random numbers; argument: how many. */
#include "sorting.h"

int guest_main(int argc, char **argv, char **envp UNUSED) {
    u32 n = scale(argc, argv, 60);
    u32 *a = make_numbers(n);
    for (u32 i = 1; i < n; i++) {
        u32 x = a[i], k = i;
        for (; k && a[k - 1] > x; k--) a[k] = a[k - 1];
        a[k] = x;
    }
    return report(a, n);
}
