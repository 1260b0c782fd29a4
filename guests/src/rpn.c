/* Reverse polish notation: words of input are numbers or + - * / dup drop swap, "=" prints the top; status 1 on error. */
#include "guest.h"

static i32 stack[64];
static u32 depth;

static i32 pop(void) {
    if (!depth) fail("stack is empty\n");
    return stack[--depth];
}

static void push(i32 n) {
    if (depth == 64) fail("stack is full\n");
    stack[depth++] = n;
}

static void word(const char *w) {
    i32 a, b;
    if ((*w >= '0' && *w <= '9') || (*w == '-' && w[1])) push(to_int(w));
    else if (!compare(w, "+")) b = pop(), a = pop(), push(a + b);
    else if (!compare(w, "-")) b = pop(), a = pop(), push(a - b);
    else if (!compare(w, "*")) b = pop(), a = pop(), push(a * b);
    else if (!compare(w, "/")) {
        b = pop(), a = pop();
        if (!b) fail("division by zero\n");
        push(a / b);
    } else if (!compare(w, "dup")) a = pop(), push(a), push(a);
    else if (!compare(w, "drop")) pop();
    else if (!compare(w, "swap")) b = pop(), a = pop(), push(b), push(a);
    else if (!compare(w, "=")) a = pop(), push(a), put_int(a), put("\n");
    else fail("unknown word\n");
}

int guest_main(int argc UNUSED, char **argv UNUSED, char **envp UNUSED) {
    char text[32];
    u32 n = 0;
    int c;
    do {
        c = get_char();
        if (c > ' ' && n < sizeof text - 1) text[n++] = (char)c;
        else if (n) text[n] = 0, word(text), n = 0;
    } while (c >= 0);
    return 0;
}
