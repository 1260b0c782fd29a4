/* Standard input in base64, 76 columns; with -d the other way round. */
#include "guest.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static int encode(void) {
    u32 column = 0;
    for (;;) {
        u32 word = 0, n = 0;
        int c;
        while (n < 3 && (c = get_char()) >= 0) word |= (u32)c << (16 - 8 * n++);
        if (!n) break;
        for (u32 i = 0; i < 4; i++) put_char(i <= n ? alphabet[word >> (18 - 6 * i) & 63] : '=');
        if ((column += 4) == 76) put("\n"), column = 0;
        if (n < 3) break;
    }
    if (column) put("\n");
    return 0;
}

static int value(int c) {
    for (int i = 0; i < 64; i++)
        if (alphabet[i] == c) return i;
    return -1;
}

static int decode(void) {
    u32 word = 0, bits = 0;
    int c;
    while ((c = get_char()) >= 0 && c != '=') {
        if (c == '\n') continue;
        int v = value(c);
        if (v < 0) fail("not base64\n");
        word = word << 6 | (u32)v, bits += 6;
        if (bits >= 8) put_char((char)(word >> (bits -= 8)));
    }
    return 0;
}

int guest_main(int argc, char **argv, char **envp UNUSED) {
    return argc > 1 && !compare(argv[1], "-d") ? decode() : encode();
}
