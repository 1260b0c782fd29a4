/* Ackermann's function, the towers of Hanoi, mutual recursion. */
#include "guest.h"

static u32 moves;

static u32 ackermann(u32 m, u32 n) {
    return !m ? n + 1 : !n ? ackermann(m - 1, 1) : ackermann(m - 1, ackermann(m, n - 1));
}

static void hanoi(u32 n, int from, int to, int over) {
    if (!n) return;
    hanoi(n - 1, from, over, to);
    moves++;
    hanoi(n - 1, over, to, from);
}

static int is_odd(u32 n);
static int __attribute__((noinline)) is_even(u32 n) { return n ? is_odd(n - 1) : 1; }
static int __attribute__((noinline)) is_odd(u32 n) { return n ? is_even(n - 1) : 0; }

int guest_main(int argc UNUSED, char **argv UNUSED, char **envp UNUSED) {
    put("ackermann(2, 9) = "), put_unsigned(ackermann(2, 9)), put("\n");
    hanoi(9, 1, 3, 2);
    put("hanoi(9) takes "), put_unsigned(moves), put(" moves\n");
    put("1000 is "), put(is_even(1000) ? "even\n" : "odd\n");
    return 0;
}
