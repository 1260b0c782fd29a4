"""IA-32: the CPU's state, the instruction table, and what is derived from it."""
