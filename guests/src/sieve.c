/* The sieve of Eratosthenes; argument: up to which number. A benchmark. */
#include "guest.h"

int guest_main(int argc, char **argv, char **envp UNUSED) {
    u32 n = scale(argc, argv, 5000), count = 0, last = 0;
    u8 *composite = allocate(n + 1);
    if (!composite) fail("no memory\n");
    for (u32 i = 2; i <= n; i++) {
        if (composite[i]) continue;
        count++, last = i;
        if (i <= 65535)
            for (u32 k = i * i; k <= n; k += i) composite[k] = 1;
    }
    put_unsigned(count), put(" primes up to "), put_unsigned(n), put(", the last is "), put_unsigned(last), put("\n");
    return 0;
}
