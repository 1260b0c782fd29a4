/* Prints the lines of standard input that contain the first argument; status 1 when there is none. */
#include "guest.h"

static int contains(const char *line, const char *text) {
    for (; *line; line++) {
        u32 i = 0;
        while (text[i] && line[i] == text[i]) i++;
        if (!text[i]) return 1;
    }
    return !*text;
}

int guest_main(int argc, char **argv, char **envp UNUSED) {
    char line[4096];
    int found = 0;
    if (argc < 2) fail("usage: grep TEXT\n");
    while (get_line(line, sizeof line) >= 0)
        if (contains(line, argv[1])) put(line), put("\n"), found = 1;
    return !found;
}
