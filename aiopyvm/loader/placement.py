"""Where the parts of a program go: always at the same places, or at random ones, as Linux has them for 32-bit programs.

Sources: arch/x86/mm/mmap.c (arch_mmap_rnd, mmap_base), fs/binfmt_elf.c (load_elf_binary, randomize_stack_top),
arch/x86/kernel/process.c (arch_align_stack, arch_randomize_brk).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final, NamedTuple

from aiopyvm.mem.layout import PAGE

_PAGES: Final = 1 << 8  # among which the mappings' base, and a position-independent program, are placed
_STACK_PAGES: Final = 1 << 11
_STACK_BYTES: Final = 8192
_BREAK_PAGES: Final = 1 << 13


class Placement(NamedTuple):
    """Distances in bytes from the usual places: the stack's end is so much lower, and its first content again
    `in_stack`; the mappings begin so much lower; a position-independent program is so much higher, and the break so
    much above its usual place."""

    stack: int = 0
    in_stack: int = 0
    mappings: int = 0
    program: int = 0
    brk: int = 0


FIXED: Final = Placement()


def random_placement(draw: Callable[[int], bytes]) -> Placement:
    """A placement by `draw`, which gives so many random bytes."""
    stack, in_stack, mappings, program, brk = struct.unpack("<5I", draw(20))
    return Placement(
        stack % _STACK_PAGES * PAGE,
        in_stack % _STACK_BYTES & -16,
        mappings % _PAGES * PAGE,
        program % _PAGES * PAGE,
        brk % _BREAK_PAGES * PAGE,
    )
