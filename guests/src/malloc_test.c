/* A first-fit allocator over brk: allocates, checks, frees and allocates again; then asks for too much. */
#include "guest.h"

struct block { u32 size; int free; struct block *next; };
static struct block *first;

static void *take(u32 size) {
    struct block *b, **end = &first;
    size = (size + 15) & ~15u;
    for (b = first; b; end = &b->next, b = b->next)
        if (b->free && b->size >= size) {
            if (b->size >= size + 64) {
                struct block *rest = (struct block *)((u8 *)(b + 1) + size);
                rest->size = b->size - size - sizeof *rest, rest->free = 1, rest->next = b->next;
                b->size = size, b->next = rest;
            }
            b->free = 0;
            return b + 1;
        }
    if (!(b = allocate(size + sizeof *b))) return NULL;
    b->size = size, b->free = 0, b->next = NULL;
    *end = b;
    return b + 1;
}

static void give(void *p) {
    ((struct block *)p - 1)->free = 1;
    for (struct block *b = first; b; b = b->next)
        while (b->free && b->next && b->next->free && (u8 *)(b + 1) + b->size == (u8 *)b->next)
            b->size += b->next->size + sizeof *b, b->next = b->next->next;
}

int guest_main(int argc UNUSED, char **argv UNUSED, char **envp UNUSED) {
    u8 *p[64] = {0};
    u32 size[64], x = 1, taken = 0, blocks = 0;
    for (int round = 0; round < 400; round++) {
        u32 k = (x = x * 1664525u + 1013904223u) >> 26;
        if (p[k]) {
            for (u32 i = 0; i < size[k]; i += 7)
                if (p[k][i] != (u8)k) fail("block overwritten\n");
            give(p[k]), p[k] = NULL;
        } else {
            size[k] = 1 + (x >> 12 & 1023);
            if (!(p[k] = take(size[k]))) fail("no memory\n");
            memset(p[k], (int)k, size[k]), taken++;
        }
    }
    for (struct block *b = first; b; b = b->next) blocks++;
    put_unsigned(taken), put(" allocations in "), put_unsigned(blocks), put(" blocks\n");
    put(take(0xf0000000u) ? "got 3840 MiB\n" : "3840 MiB refused\n");
    return 0;
}
