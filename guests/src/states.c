/* A scanner of a made-up language, all of it one switch over states in a loop; argument: how many thousand characters.
 * A benchmark of indirect jumps. */
#include "guest.h"

enum state { BLANK, WORD, NUMBER, FRACTION, STRING, ESCAPE, SLASH, COMMENT, STAR, LINE, LESS, GREATER, STATES };

static const char text[] = "let x1 = 3.25 + f(\"a\\\"b\", 17) / 2; /* why * not */ if x1 << 4 >= y { y = 0; } // done\n";

int guest_main(int argc, char **argv, char **envp UNUSED) {
    u32 left = scale(argc, argv, 4) * 1000, counts[STATES] = {0}, hash = 0;
    enum state state = BLANK;
    for (const char *at = text; left; left--) {
        u32 c = (u8)*at++;
        if (!*at) at = text;
        counts[state]++;
        switch (state) {
            case BLANK:
            start:
                if ((c | 32) - 'a' < 26u) state = WORD, hash += c;
                else if (c - '0' < 10u) state = NUMBER, hash = hash * 10 + c;
                else if (c == '"') state = STRING;
                else if (c == '/') state = SLASH;
                else if (c == '<') state = LESS;
                else if (c == '>') state = GREATER;
                else state = BLANK, hash ^= c;
                break;
            case WORD:
                if ((c | 32) - 'a' < 26u || c - '0' < 10u) hash = hash * 31 + c;
                else goto start;
                break;
            case NUMBER:
                if (c == '.') state = FRACTION;
                else if (c - '0' < 10u) hash = hash * 10 + c;
                else goto start;
                break;
            case FRACTION:
                if (c - '0' < 10u) hash = hash * 7 + c;
                else goto start;
                break;
            case STRING:
                if (c == '\\') state = ESCAPE;
                else if (c == '"') state = BLANK;
                else hash += c * 3u;
                break;
            case ESCAPE: hash ^= c, state = STRING; break;
            case SLASH:
                if (c == '*') state = COMMENT;
                else if (c == '/') state = LINE;
                else goto start;
                break;
            case COMMENT: state = c == '*' ? STAR : COMMENT; break;
            case STAR: state = c == '/' ? BLANK : c == '*' ? STAR : COMMENT; break;
            case LINE: state = c == '\n' ? BLANK : LINE; break;
            case LESS: hash += c == '=' || c == '<', state = BLANK; break;
            case GREATER: hash -= c == '=' || c == '>', state = BLANK; break;
            default: fail("no such state\n");
        }
    }
    for (u32 i = 0; i < STATES; i++) put_unsigned(counts[i]), put(" ");
    put("hash "), put_hex(hash, 8), put("\n");
    return 0;
}
