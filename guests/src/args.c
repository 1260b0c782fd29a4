/* Prints its arguments and its environment, one a line; the exit status is the number of arguments. */
#include "guest.h"

int guest_main(int argc, char **argv, char **envp) {
    for (int i = 0; i < argc; i++) put("argv["), put_int(i), put("]="), put(argv[i]), put("\n");
    for (; *envp; envp++) put("env "), put(*envp), put("\n");
    return argc;
}
