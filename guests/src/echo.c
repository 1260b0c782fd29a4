/* Answers each line of input with its number and itself; writes to both output streams. */
#include "guest.h"

int guest_main(int argc UNUSED, char **argv UNUSED, char **envp UNUSED) {
    char line[256];
    int n = 0;
    while (get_line(line, sizeof line) >= 0) put_int(++n), put(": "), put(line), put("\n");
    flush();
    write_all(2, "end of input\n", 13);
    return 0;
}
