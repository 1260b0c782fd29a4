/* Sorts the lines of standard input; -n by number, -r the greatest first (-rn and -nr both). Stable merge sort. */
#include "guest.h"

static int by_number, reversed;

static int before(const char *a, const char *b) { /* may a stay before b? */
    i32 order;
    if (by_number) {
        i32 x = to_int(a), y = to_int(b);
        order = x < y ? -1 : x > y;
        if (!order) order = compare(a, b);
    } else
        order = compare(a, b);
    return reversed ? order >= 0 : order <= 0;
}

static void merge_sort(char **lines, char **room, u32 n) {
    if (n < 2) return;
    u32 half = n / 2, i = 0, k = half, at = 0;
    merge_sort(lines, room, half);
    merge_sort(lines + half, room, n - half);
    while (i < half && k < n) room[at++] = before(lines[i], lines[k]) ? lines[i++] : lines[k++];
    while (i < half) room[at++] = lines[i++];
    while (k < n) room[at++] = lines[k++];
    for (i = 0; i < n; i++) lines[i] = room[i];
}

int guest_main(int argc, char **argv, char **envp UNUSED) {
    for (int i = 1; i < argc; i++)
        for (const char *c = argv[i]; *c; c++) by_number |= *c == 'n', reversed |= *c == 'r';
    u32 room = 1024, n = 0;
    char **lines = allocate(room * 4), line[1024];
    i32 size;
    while ((size = get_line(line, sizeof line)) >= 0) {
        if (n == room) {
            char **more = allocate(room * 8);
            if (!more) fail("no memory\n");
            memcpy(more, lines, room * 4), lines = more, room *= 2;
        }
        if (!(lines[n] = allocate((u32)size + 1))) fail("no memory\n");
        memcpy(lines[n++], line, (u32)size + 1);
    }
    char **other = allocate(n * 4 + 4);
    if (!other) fail("no memory\n");
    merge_sort(lines, other, n);
    for (u32 i = 0; i < n; i++) put(lines[i]), put("\n");
    return 0;
}
