/* Dies of the fault that its argument names: null, divide, illegal, stack; anything else leaves with that status. */
#include "guest.h"

#pragma GCC diagnostic ignored "-Winfinite-recursion"
static u32 __attribute__((noinline)) deep(volatile u32 n) {
    volatile u32 room[256];
    room[n & 255] = n;
    return deep(n + 1) + room[n & 255];
}

int guest_main(int argc, char **argv, char **envp UNUSED) {
    const char *how = argc > 1 ? argv[1] : "null";
    volatile u32 zero = 0;
    put("about to: "), put(how), put("\n"), flush();
    if (!compare(how, "null")) return *(volatile i32 *)zero;
    if (!compare(how, "divide")) __asm__ volatile("xorl %edx, %edx\n\tdivl %edx");
    if (!compare(how, "illegal")) __asm__ volatile("ud2");
    if (!compare(how, "stack")) return (int)deep(0);
    return to_int(how);
}
