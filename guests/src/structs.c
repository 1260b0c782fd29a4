/* Structures: packed and aligned members, bit fields, by value and by pointer, a linked list, a function table. */
#include "guest.h"

struct point { i32 x, y; };
struct packed { u8 a; u32 b; u16 c; u64 d; } __attribute__((packed));
struct bits { u32 low : 3, middle : 11, high : 18; };
struct node { i32 value; struct node *next; };

static struct point mirror(struct point p) { return (struct point){p.y, -p.x}; }
static i32 add(i32 a, i32 b) { return a + b; }
static i32 subtract(i32 a, i32 b) { return a - b; }
static i32 multiply(i32 a, i32 b) { return a * b; }

int guest_main(int argc UNUSED, char **argv UNUSED, char **envp UNUSED) {
    i32 (*const operations[])(i32, i32) = {add, subtract, multiply};
    struct packed p = {1, 0x12345678, 0xabcd, 0x1122334455667788ull};
    volatile struct bits b = {5, 1234, 200000};
    struct point q = {3, 4};
    struct node *list = NULL;
    const u8 *raw = (const u8 *)&p;
    put("sizes "), put_unsigned(sizeof p), put(" "), put_unsigned(sizeof(struct bits)), put("\nbytes ");
    for (u32 i = 0; i < sizeof p; i++) put_hex(raw[i], 2);
    b.middle += 1000;
    put("\nbits "), put_unsigned(b.low), put(" "), put_unsigned(b.middle), put(" "), put_unsigned(b.high), put("\n");
    for (int i = 0; i < 5; i++) q = mirror(q), q.x += i;
    put("point "), put_int(q.x), put(" "), put_int(q.y), put("\nlist");
    for (i32 i = 1; i <= 6; i++) {
        struct node *n = allocate(sizeof *n);
        n->value = operations[i % 3](i * 10, i), n->next = list, list = n;
    }
    for (; list; list = list->next) put(" "), put_int(list->value);
    put("\n");
    return 0;
}
