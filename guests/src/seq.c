/* Prints the numbers from 1, or from the first argument, to the last argument. */
#include "guest.h"

int guest_main(int argc, char **argv, char **envp UNUSED) {
    i32 from = argc > 2 ? to_int(argv[1]) : 1, to = argc > 1 ? to_int(argv[argc - 1]) : 10;
    for (i32 i = from; i <= to; i++) put_int(i), put("\n");
    return 0;
}
