"""Random hostile programs, each made from its seed alone: mutated ELF files, random code, random system calls."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

GUESTS: Final = Path(__file__).parents[2] / "guests" / "bin"
_VICTIMS: Final = (
    "hello",
    "hello_pie",
    "hello_zero",
    "args",
    "cat",
    "fib",
    "malloc_test",
    "sort",
    "structs",
    "upper_raw",
)
_ELF_HEADER, _PROGRAM_HEADER = 52, 32
_INTERESTING: Final = (
    0, 1, 2, 3, 4, 7, 8, 12, 15, 16, 31, 32, 63, 64, 127, 128, 255, 256, 1024, 4095, 4096, 4097, 65535, 65536,
    0x7FFFFFFF, 0x80000000, 0x80000001, 0xFFFFDFFF, 0xFFFFE000, 0xFFFFF000, 0xFFFFFFFE, 0xFFFFFFFF,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Input:
    """One hostile program. `elf` tells a file for `run_elf` from code for `run_bytes`."""

    kind: str
    seed: int
    data: bytes
    elf: bool
    stdin: bytes = b""


def inputs(first_seed: int, count: int) -> Iterator[Input]:
    """Yield `count` programs, going round the kinds."""
    for seed in range(first_seed, first_seed + count):
        rng = random.Random(seed)
        make = KINDS[seed % len(KINDS)]
        yield make(seed, rng)


def mutated_elf(seed: int, rng: random.Random) -> Input:
    """A guest of ours with bytes changed, mostly in its headers; cut or prolonged at times."""
    data = bytearray((GUESTS / rng.choice(_VICTIMS)).read_bytes())
    headers = _ELF_HEADER + _PROGRAM_HEADER * 3
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        end = headers if rng.random() < 0.7 else len(data)
        at = rng.randrange(end)
        if rng.random() < 0.5:
            data[at] = rng.getrandbits(8)
        else:
            at &= ~3
            data[at : at + 4] = struct.pack("<I", rng.choice(_INTERESTING))
    if rng.random() < 0.15:
        del data[rng.randrange(len(data)) :]
    elif rng.random() < 0.1:
        data += rng.randbytes(rng.randrange(8192))
    return Input("mutated elf", seed, bytes(data), elf=True, stdin=rng.randbytes(64))


def random_code(seed: int, rng: random.Random) -> Input:
    """Random bytes, as code."""
    return Input("random code", seed, rng.randbytes(rng.randrange(1, 400)), elf=False)


def shuffled_code(seed: int, rng: random.Random) -> Input:
    """Pieces of real programs in a random order: more of it runs than of random bytes."""
    text = (GUESTS / rng.choice(_VICTIMS)).read_bytes()[0x80:]
    pieces = []
    for _ in range(rng.randrange(1, 30)):
        at = rng.randrange(len(text))
        pieces.append(text[at : at + rng.randrange(1, 40)])
    return Input("shuffled code", seed, b"".join(pieces), elf=False)


def random_system_calls(seed: int, rng: random.Random) -> Input:
    """Twenty system calls with arguments that are small, huge, pointers to something, to nothing, or what came back."""
    code = bytearray()
    for _ in range(20):
        number = rng.choice((rng.randrange(0, 460), rng.choice(_COMMON)))
        code += b"\xb8" + struct.pack("<I", number)
        for register in (3, 1, 2, 6, 7, 5):  # ebx ecx edx esi edi ebp
            if rng.random() < 0.1:
                code += bytes((0x8B, 0xC0 | register << 3 | 4))  # mov reg, esp
            else:
                code += bytes((0xB8 | register,)) + struct.pack("<I", _argument(rng))
        code += b"\xcd\x80"
        if rng.random() < 0.3:
            code += b"\xa3" + struct.pack("<I", 0x800 + 4 * rng.randrange(64))  # keep what came back
    code += bytes(0x400 - len(code) % 0x400)
    strings = b"".join(struct.pack("<I", rng.choice(_INTERESTING)) for _ in range(64))
    return Input("random calls", seed, bytes(code) + _PATHS + strings + bytes(2048), elf=False, stdin=b"some input\n")


_COMMON: Final = (
    2, 3, 4, 5, 6, 7, 11, 19, 33, 37, 42, 45, 54, 63, 67, 72, 90, 91, 102, 114, 119, 120, 125, 140, 141, 142, 145, 146,
    162, 163, 168, 173, 174, 175, 177, 179, 180, 181, 187, 190, 192, 195, 220, 221, 240, 243, 258, 265, 270, 295, 331,
    355, 356, 377, 383, 403, 407, 414, 422, 435, 437, 439, 452,
)  # fmt: skip
_PATHS: Final = b"/\0/tmp\0.\0../../..\0/dev/null\0/proc/self/exe\0/proc/self/fd/0\0a\0".ljust(256, b"\0")


def _argument(rng: random.Random) -> int:
    choice = rng.random()
    if choice < 0.3:
        return rng.randrange(0, 8)
    if choice < 0.6:
        return rng.randrange(0x400, 0xC00)  # into the paths and numbers behind the code
    if choice < 0.8:
        return rng.choice(_INTERESTING)
    if choice < 0.9:
        return 1 << rng.randrange(32)
    return rng.getrandbits(32)


KINDS: Final[tuple[Callable[[int, random.Random], Input], ...]] = (
    mutated_elf,
    random_code,
    shuffled_code,
    random_system_calls,
)
