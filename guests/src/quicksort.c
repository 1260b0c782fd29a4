/* Quicksort (Hoare's partition, recursive) of pseudo-random numbers; argument: how many. A benchmark. */
#include "sorting.h"

static void quicksort(u32 *a, i32 low, i32 high) {
    while (low < high) {
        u32 pivot = a[(low + high) >> 1];
        i32 i = low, k = high;
        while (i <= k) {
            while (a[i] < pivot) i++;
            while (a[k] > pivot) k--;
            if (i <= k) {
                u32 t = a[i];
                a[i++] = a[k], a[k--] = t;
            }
        }
        quicksort(a, low, k);
        low = i;
    }
}

int guest_main(int argc, char **argv, char **envp UNUSED) {
    u32 n = scale(argc, argv, 1000);
    u32 *a = make_numbers(n);
    quicksort(a, 0, (i32)n - 1);
    return report(a, n);
}
