/* Says hello and leaves with status 0. */
#include "guest.h"

int guest_main(int argc UNUSED, char **argv UNUSED, char **envp UNUSED) {
    put("Hello, world!\n");
    return 0;
}
