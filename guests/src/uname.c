/* Prints what kernel and machine it runs on: system name and machine; with -a all six words. */
#include "guest.h"

int guest_main(int argc, char **argv, char **envp UNUSED) {
    static char names[6][65];
    if (syscall3(SYS_uname, (u32)names, 0, 0)) fail("uname failed\n");
    if (argc > 1 && !compare(argv[1], "-a"))
        for (int i = 0; i < 6; i++) put(names[i]), put(i < 5 ? " " : "\n");
    else
        put(names[0]), put(" "), put(names[4]), put("\n");
    return 0;
}
