/* Counts the lines, words and bytes of standard input. */
#include "guest.h"

int guest_main(int argc UNUSED, char **argv UNUSED, char **envp UNUSED) {
    u32 lines = 0, words = 0, bytes = 0;
    int c, inside = 0;
    while ((c = get_char()) >= 0) {
        int blank = c == ' ' || (c >= 9 && c <= 13);
        bytes++, lines += c == '\n', words += !inside && !blank, inside = !blank;
    }
    put_unsigned(lines), put(" "), put_unsigned(words), put(" "), put_unsigned(bytes), put("\n");
    return 0;
}
