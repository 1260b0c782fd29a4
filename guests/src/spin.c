/* Never ends: for limits, deadlines and fairness. */
#include "guest.h"

int guest_main(int argc UNUSED, char **argv UNUSED, char **envp UNUSED) {
    put("spinning\n"), flush();
    for (volatile u32 n = 0;; n++) {}
}
