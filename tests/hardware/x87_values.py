"""Random operands for the x87: every class of value, and pairs whose difference decides something."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from typing import Final

SPECIAL_SIGNIFICANDS: Final = (
    0, 1, 2, 3, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 63) + 1, 3 << 62, (3 << 62) + 1, (1 << 64) - 1,
    (1 << 64) - (1 << 40), (1 << 64) - (1 << 11), (1 << 63) | (1 << 39), (1 << 63) | (1 << 10), (1 << 63) | (1 << 40)
    | (1 << 39),
)  # fmt: skip
EXPONENT_EDGES: Final = (
    0, 1, 2, 3, 16383 - 1075, 16383 - 1074, 16383 - 1023, 16383 - 1022, 16383 - 150, 16383 - 149, 16383 - 127, 16383 -
    126, 16383 - 64, 16382, 16383, 16384, 16383 + 15, 16383 + 31, 16383 + 32, 16383 + 62, 16383 + 63, 16383 + 64,
    16383 + 127, 16383 + 128, 16383 + 1023, 16383 + 1024, 0x7FFC, 0x7FFD, 0x7FFE, 0x7FFF,
)  # fmt: skip


def significand(rng: random.Random) -> int:
    """64 bits: special, dense, or with long runs of one value."""
    kind = rng.randrange(6)
    if kind == 0:
        return rng.choice(SPECIAL_SIGNIFICANDS)
    bits = rng.getrandbits(64)
    if kind == 1:
        return bits & ~((1 << rng.randrange(64)) - 1)
    if kind == 2:
        return bits | ((1 << rng.randrange(64)) - 1)
    return bits


def normal(rng: random.Random) -> int:
    """A normal number of moderate exponent."""
    exponent = 16383 + rng.randint(-70, 70)
    return rng.getrandbits(1) << 79 | exponent << 64 | 1 << 63 | significand(rng)


def extended(rng: random.Random) -> int:
    """Any 80-bit encoding, unsupported ones included."""
    kind = rng.randrange(12)
    sign = rng.getrandbits(1) << 79
    if kind < 4:
        return normal(rng)
    if kind < 7:
        exponent = min(max(rng.choice(EXPONENT_EDGES) + rng.randint(-1, 1), 0), 0x7FFF)
        return sign | exponent << 64 | (1 << 63 if 0 < exponent < 0x7FFF else 0) | significand(rng)
    if kind == 7:
        return sign | significand(rng) & (1 << 63) - 1 if rng.getrandbits(1) else sign | significand(rng)
    if kind == 8:
        return sign | rng.choice((0, 0x7FFF << 64 | 1 << 63, 0x3FFF << 64 | 1 << 63))
    if kind == 9:
        return sign | 0x7FFF << 64 | 1 << 63 | significand(rng)
    if kind == 10:
        return sign | integral(rng)
    return rng.getrandbits(80)


def integral(rng: random.Random) -> int:
    """A number near an integer or a half, without sign."""
    doubled = rng.getrandbits(rng.randint(1, 66)) | 1
    bits = doubled.bit_length()
    value = (doubled << 64 >> bits) & (1 << 64) - 1
    value = (value + rng.choice((0, 0, 0, 1, -1))) & (1 << 64) - 1 | 1 << 63
    return (16383 + bits - 2) << 64 | value


def related(rng: random.Random, other: int) -> int:
    """A value near `other`: equal, of the other sign, a few exponents or bits away."""
    kind = rng.randrange(6)
    if kind == 0:
        return other
    if kind == 1:
        return other ^ 1 << 79
    if kind == 2:
        return other ^ 1 << rng.randrange(64)
    if kind == 3:
        return (other & ~(0x7FFF << 64)) | ((other >> 64) + rng.randint(-66, 66) & 0x7FFF) << 64
    if kind == 4:
        return (other & ~((1 << 64) - 1)) | significand(rng)
    return (0x7FFE - (other >> 64) & 0x7FFF) << 64 | 1 << 63 | significand(rng)


def single(rng: random.Random) -> int:
    """Any 32-bit encoding."""
    kind = rng.randrange(5)
    if kind == 0:
        return rng.getrandbits(32)
    if kind == 1:
        fraction = rng.choice((0, 1, 1 << 22, (1 << 22) - 1, (1 << 23) - 1, rng.getrandbits(23)))
        return rng.getrandbits(1) << 31 | rng.choice((0, 1, 0xFE, 0xFF)) << 23 | fraction
    exponent = 127 + rng.randint(-20, 20)
    return rng.getrandbits(1) << 31 | exponent << 23 | rng.getrandbits(23) & ~((1 << rng.randrange(23)) - 1)


def double(rng: random.Random) -> int:
    """Any 64-bit encoding."""
    kind = rng.randrange(5)
    if kind == 0:
        return rng.getrandbits(64)
    if kind == 1:
        fraction = rng.choice((0, 1, 1 << 51, (1 << 51) - 1, (1 << 52) - 1, rng.getrandbits(52)))
        return rng.getrandbits(1) << 63 | rng.choice((0, 1, 0x7FE, 0x7FF)) << 52 | fraction
    exponent = 1023 + rng.randint(-60, 60)
    return rng.getrandbits(1) << 63 | exponent << 52 | rng.getrandbits(52) & ~((1 << rng.randrange(52)) - 1)


def image(control: int, status: int, tags: int, registers: list[int]) -> bytes:
    """A 108-byte FSAVE image; `registers` are ST(0) to ST(7)."""
    head = struct.pack("<7I", 0xFFFF0000 | control, 0xFFFF0000 | status, 0xFFFF0000 | tags, 0, 0, 0, 0)
    return head + b"".join(value.to_bytes(10, "little") for value in registers)


OPERANDS: Final[dict[str, Callable[[random.Random], int]]] = {"m32fp": single, "m64fp": double, "m80fp": extended}

_NAMES: Final = ("control", "status", "tags", "fip", "fop", "fdp", "fds")


def parts(state: bytes) -> dict[str, int]:
    """A 108-byte FSAVE image by name: what to print of it."""
    words = dict(zip(_NAMES, struct.unpack_from("<7I", state), strict=True))
    for i in range(8):
        words[f"st{i}"] = int.from_bytes(state[28 + 10 * i : 38 + 10 * i], "little")
    return words
