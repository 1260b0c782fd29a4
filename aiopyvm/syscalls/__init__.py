"""System calls, one file per family: thin handlers over the kernel's objects."""
