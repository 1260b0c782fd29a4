"""Programs into memory: ELF, flat binaries, `#!` lines, and the first stack."""
