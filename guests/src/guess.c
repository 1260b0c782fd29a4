/* Guesses a number from 1 to the one given in the first line: asks "? N", hears "<", ">" or "=". For interactive judges. */
#include "guest.h"

int guest_main(int argc UNUSED, char **argv UNUSED, char **envp UNUSED) {
    char line[32];
    if (get_line(line, sizeof line) < 0) return 1;
    i32 low = 1, high = to_int(line);
    while (low <= high) {
        i32 middle = low + (high - low) / 2;
        put("? "), put_int(middle), put("\n");
        if (get_line(line, sizeof line) < 0) return 1;
        if (*line == '=') return put("! "), put_int(middle), put("\n"), 0;
        if (*line == '<') high = middle - 1;
        else low = middle + 1;
    }
    return 1;
}
