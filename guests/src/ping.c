/* Writes a byte and waits for the answer, again and again; argument: how often. With `cat` on the other side: ping-pong. */
#include "guest.h"

int guest_main(int argc, char **argv, char **envp UNUSED) {
    for (u32 n = scale(argc, argv, 1000); n; n--) {
        char ball = (char)n;
        write_all(1, &ball, 1);
        if (syscall3(SYS_read, 0, (u32)&ball, 1) != 1 || ball != (char)n) return 1;
    }
    return 0;
}
