/* Fibonacci numbers by naive recursion; argument: which. A benchmark of calls. */
#include "guest.h"

static u32 __attribute__((noinline)) fib(u32 n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }

int guest_main(int argc, char **argv, char **envp UNUSED) {
    u32 n = scale(argc, argv, 15);
    put("fib("), put_unsigned(n), put(") = "), put_unsigned(fib(n)), put("\n");
    return 0;
}
