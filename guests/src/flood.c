/* Writes for ever: for output limits and readers that do not read. */
#include "guest.h"

int guest_main(int argc UNUSED, char **argv UNUSED, char **envp UNUSED) {
    for (;;) put("all work and no play makes a dull guest\n");
}
