/* Copies and fills with string instructions forward and backward, at all alignments; compares with plain loops. */
#include "guest.h"

static u8 a[256], b[256], c[256];

static void move_backward(u8 *to, const u8 *from, u32 n) {
    to += n - 1, from += n - 1;
    __asm__ volatile("std; rep movsb; cld" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}

static void move_words(u8 *to, const u8 *from, u32 words) {
    __asm__ volatile("rep movsl" : "+D"(to), "+S"(from), "+c"(words) : : "memory");
}

static void check(u32 from, u32 to, u32 n, int how) {
    for (u32 i = 0; i < 256; i++) a[i] = b[i] = c[i] = (u8)(i * 7 + 3);
    if (how == 0) {
        memcpy(b + to, a + from, n);
        for (u32 i = 0; i < n; i++) c[to + i] = a[from + i];
    } else if (how == 1) { /* overlapping, the end first */
        move_backward(b + to, b + from, n);
        for (u32 i = n; i-- > 0;) c[to + i] = c[from + i];
    } else if (how == 2) {
        move_words(b + to, a + from, n / 4);
        for (u32 i = 0; i < n / 4 * 4; i++) c[to + i] = a[from + i];
    } else {
        memset(b + to, (int)n, n);
        for (u32 i = 0; i < n; i++) c[to + i] = (u8)n;
    }
    for (u32 i = 0; i < 256; i++)
        if (b[i] != c[i]) fail("copied wrongly\n");
}

int guest_main(int argc UNUSED, char **argv UNUSED, char **envp UNUSED) {
    u32 n = 0;
    for (u32 from = 0; from < 5; from++)
        for (u32 to = 0; to < 5; to++)
            for (u32 size = 0; size < 40; size += 3)
                for (int how = 0; how < 4; how++) check(from, to, size, how), n++;
    put_unsigned(n), put(" copies are right\n");
    return 0;
}
