"""Tests of the instruction set: its table, decoder, disassembler and assembler."""
