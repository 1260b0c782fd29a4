/* Walks a linked list whose nodes lie about in memory, and reverses it; argument: how often. A benchmark of loads that
 * wait for one another. */
#include "guest.h"

enum { NODES = 4096 };

struct node {
    struct node *next;
    u32 value;
    u32 rest[2];
};

static struct node nodes[NODES];

static __attribute__((noinline)) u32 walk(const struct node *at) {
    u32 sum = 0;
    for (; at; at = at->next) sum = sum * 33 ^ at->value;
    return sum;
}

static __attribute__((noinline)) struct node *reverse(struct node *at) {
    struct node *before = NULL;
    while (at) {
        struct node *next = at->next;
        at->next = before;
        before = at, at = next;
    }
    return before;
}

int guest_main(int argc, char **argv, char **envp UNUSED) {
    u32 rounds = scale(argc, argv, 4), sum = 0;
    for (u32 i = 0; i < NODES; i++) { /* 1021 and NODES have no common divisor: every node once */
        struct node *node = &nodes[i * 1021 % NODES];
        node->value = i * 2654435761u;
        node->next = i + 1 < NODES ? &nodes[(i + 1) * 1021 % NODES] : NULL;
    }
    struct node *first = nodes;
    for (u32 round = 0; round < rounds; round++) {
        for (u32 i = 0; i < 4; i++) sum += walk(first);
        first = reverse(first);
    }
    put_unsigned(rounds), put(" rounds, hash "), put_hex(sum, 8), put("\n");
    return 0;
}
