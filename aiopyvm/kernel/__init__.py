"""The guest kernel: synchronous objects and no I/O."""
