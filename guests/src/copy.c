/* Copies a buffer to and fro, by words in a loop and by string instructions, at several alignments; argument: how often.
 * A benchmark. */
#include "guest.h"

enum { SIZE = 1 << 16 };

static u8 here[SIZE + 64], there[SIZE + 64];

static __attribute__((noinline)) void copy_words(u8 *to, const u8 *from, u32 n) {
    for (u32 i = 0; i < n / 4; i++) ((u32 *)to)[i] = ((const u32 *)from)[i];
}

static __attribute__((noinline)) void copy_bytes(u8 *to, const u8 *from, u32 n) {
    for (u32 i = 0; i < n; i++) to[i] = from[i];
}

int guest_main(int argc, char **argv, char **envp UNUSED) {
    u32 rounds = scale(argc, argv, 4), sum = 0;
    for (u32 i = 0; i < SIZE; i++) here[i] = (u8)(i * i + 7);
    for (u32 round = 0; round < rounds; round++) {
        u32 skew = round & 7;
        copy_words(there + skew, here, SIZE);
        copy_bytes(here, there + skew, SIZE / 4);
        memcpy(here + SIZE / 4, there + SIZE / 4 + skew, SIZE / 2);
        here[round % SIZE] += (u8)round;
    }
    for (u32 i = 0; i < SIZE; i++) sum = sum * 31 + here[i];
    put_unsigned(rounds), put(" rounds, hash "), put_hex(sum, 8), put("\n");
    return 0;
}
