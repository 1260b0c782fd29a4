/* Evaluates an expression a line (+ - * / % and parentheses, whole numbers) and prints the value; "quit" ends it. */
#include "guest.h"

static const char *at;
static const char *error;

static i32 expression(void);

static void blanks(void) {
    while (*at == ' ') at++;
}

static i32 factor(void) {
    blanks();
    if (*at == '-') return at++, -factor();
    if (*at == '(') {
        at++;
        i32 value = expression();
        blanks();
        if (*at == ')') at++;
        else error = "missing )";
        return value;
    }
    if (*at < '0' || *at > '9') return error = "number expected", 0;
    i32 value = to_int(at);
    while (*at >= '0' && *at <= '9') at++;
    return value;
}

static i32 term(void) {
    i32 value = factor();
    for (;;) {
        blanks();
        char operator = *at;
        if (operator != '*' && operator != '/' && operator != '%') return value;
        at++;
        i32 right = factor();
        if (operator == '*') value *= right;
        else if (!right) error = error ? error : "division by zero";
        else value = operator == '/' ? value / right : value % right;
    }
}

static i32 expression(void) {
    i32 value = term();
    for (;;) {
        blanks();
        if (*at == '+') at++, value += term();
        else if (*at == '-') at++, value -= term();
        else return value;
    }
}

int guest_main(int argc UNUSED, char **argv UNUSED, char **envp UNUSED) {
    char line[256];
    put("> ");
    while (get_line(line, sizeof line) >= 0 && compare(line, "quit")) {
        at = line, error = NULL;
        i32 value = expression();
        if (!error && *at) error = "operator expected";
        if (error) put("error: "), put(error);
        else put_int(value);
        put("\n> ");
    }
    put("bye\n");
    return 0;
}
