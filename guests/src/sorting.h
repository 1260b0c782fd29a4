/* What the sorting guests share: pseudo-random numbers to sort, and a report that shows the result right or wrong. */
#include "guest.h"

UNUSED static u32 *make_numbers(u32 n) {
    u32 *a = allocate(n * 4);
    u32 x = 12345;
    if (!a) fail("no memory\n");
    for (u32 i = 0; i < n; i++) a[i] = (x = x * 1103515245u + 12345u) >> 8;
    return a;
}

static int report(const u32 *a, u32 n) {
    u32 sum = 0;
    for (u32 i = 0; i < n; i++) {
        if (i && a[i - 1] > a[i]) fail("not sorted\n");
        sum = sum * 31 + a[i];
    }
    put_unsigned(n), put(" numbers, least "), put_unsigned(a[0]), put(", greatest "), put_unsigned(a[n - 1]);
    put(", hash "), put_hex(sum, 8), put("\n");
    return 0;
}
