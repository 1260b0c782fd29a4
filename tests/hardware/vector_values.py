"""Random contents of vector registers: lanes of one kind, at their edges more often than chance would have it."""

from __future__ import annotations

import random
from typing import Final

_FRACTION: Final = {32: 23, 64: 52}
_INTEGERS: Final = (8, 16, 32, 64)
_SPECIAL_BYTES: Final = (0, 0, 0xFF, 0x80, 0x7F, 1)


def number(rng: random.Random, bits: int) -> int:
    """A floating-point number of 32 or 64 bits."""
    fraction_bits = _FRACTION[bits]
    top = (1 << bits - 1 - fraction_bits) - 1  # the exponent of infinities and NaNs
    bias = top >> 1
    sign = rng.getrandbits(1) << bits - 1
    quiet = 1 << fraction_bits - 1
    fraction = rng.getrandbits(fraction_bits)
    kind = rng.randrange(16)
    if kind == 0:
        return rng.getrandbits(bits)
    if kind == 1:
        return sign | rng.choice((0, top << fraction_bits))
    if kind == 2:  # a quiet NaN
        return sign | top << fraction_bits | quiet | rng.choice((0, 1, fraction))
    if kind == 3:  # a signalling NaN
        return sign | top << fraction_bits | (fraction & ~quiet or 1)
    if kind == 4:  # a denormal
        return sign | (rng.choice((1, quiet, (1 << fraction_bits) - 1, fraction >> rng.randrange(fraction_bits))) or 1)
    if kind == 5:  # near underflow and overflow, of it and of products and sums
        exponent = rng.choice((1, 2, fraction_bits, fraction_bits + 1, bias >> 1, bias + (bias >> 1), top - 1, top - 2))
        return sign | exponent << fraction_bits | rng.choice((0, fraction, (1 << fraction_bits) - 1))
    if kind == 6:  # 1, and near it
        return sign | (bias << fraction_bits) + rng.choice((0, 0, 1, -1, fraction))
    if kind == 7:  # near the ends of integers
        exponent = bias + rng.choice((7, 8, 15, 16, 30, 31, 32, 62, 63, 64))
        return sign | (exponent << fraction_bits) + rng.choice((0, 1, -1, fraction))
    if kind < 11:  # integers and halves
        return sign | _integral(rng, fraction_bits, bias)
    exponent = bias + rng.randint(-fraction_bits, fraction_bits)
    kept = rng.choice((0, 0, rng.randrange(fraction_bits)))
    return sign | exponent << fraction_bits | fraction >> kept << kept


def _integral(rng: random.Random, fraction_bits: int, bias: int) -> int:
    doubled = rng.getrandbits(rng.randint(1, fraction_bits + 1)) | 1
    above = doubled.bit_length() - 1
    fraction = doubled << fraction_bits >> above
    return (bias + above - 1 << fraction_bits) + (fraction & (1 << fraction_bits) - 1)


def integer(rng: random.Random, bits: int) -> int:
    """An integer of `bits` bits."""
    kind = rng.randrange(6)
    top = 1 << bits - 1
    if kind == 0:
        return rng.choice((0, 1, top - 1, top, top + 1, 2 * top - 1, 2 * top - 2))
    if kind == 1:
        return rng.randrange(min(top, 80))
    if kind == 2:
        return sum(rng.choice(_SPECIAL_BYTES) << at for at in range(0, bits, 8))
    return rng.getrandbits(bits)


def near(rng: random.Random, other: int, bits: int) -> int:
    """A lane that has something to do with `other`: equal, of the other sign, close, or of an exponent not far away."""
    kind = rng.randrange(5)
    mask = (1 << bits) - 1
    if kind < 2:
        return other
    if kind == 2:
        return other ^ 1 << bits - 1
    if kind == 3 or bits not in _FRACTION:
        return other + rng.choice((1, -1, rng.getrandbits(bits >> 1))) & mask
    fraction_bits = _FRACTION[bits]
    return other + (rng.randint(-fraction_bits - 2, fraction_bits + 2) << fraction_bits) & mask


def lanes(rng: random.Random, size: int, kind: str, other: bytes = b"") -> bytes:
    """`size` bytes of lanes: "ps" and "pd" are numbers, "" is of any kind; some are near those of `other`."""
    floating = {"ps": 32, "pd": 64}.get(kind, 0)
    bits = floating or rng.choice((*_INTEGERS, *_INTEGERS, *_FRACTION))
    make = number if floating or (bits in _FRACTION and not rng.randrange(3)) else integer
    step = bits >> 3
    out = bytearray()
    for at in range(0, size, step):
        beside = other[at : at + step]
        if len(beside) == step and not rng.randrange(3):
            lane = near(rng, int.from_bytes(beside, "little"), bits)
        else:
            lane = make(rng, bits)
        out += lane.to_bytes(step, "little")
    return bytes(out[:size])


def kind_of(name: str) -> str:
    """What an instruction works on, by its mnemonic: "ps", "pd" or "" (integers, or not said)."""
    if name.endswith(("ps", "ss")) and name not in ("movss", "vmovss"):
        return "ps"
    return "pd" if name.endswith(("pd", "sd")) and name not in ("movsd", "vmovsd") else ""
