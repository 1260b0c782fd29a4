/* Prints the first lines of standard input; argument: how many (10). */
#include "guest.h"

int guest_main(int argc, char **argv, char **envp UNUSED) {
    u32 n = argc > 1 ? (u32)to_int(argv[1][0] == '-' ? argv[1] + 1 : argv[1]) : 10;
    for (int c; n && (c = get_char()) >= 0;) {
        put_char((char)c);
        if (c == '\n') n--;
    }
    return 0;
}
