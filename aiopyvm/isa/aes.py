"""The rounds of AES and carry-less products, as functions of 128-bit ints (FIPS 197; Intel SDM vol. 1, "AESNI and
PCLMULQDQ"). Byte n of a state is bits 8n to 8n + 7.
"""

from __future__ import annotations

from typing import Final

from aiopyvm.ir.helpers import helper

_MODULUS: Final = 0x11B
_MASK32: Final = 0xFFFFFFFF


def product(x: int, y: int) -> int:
    """The carry-less product of two numbers."""
    result = 0
    while y:
        lowest = y & -y
        result ^= x * lowest
        y ^= lowest
    return result


def _times(x: int, y: int) -> int:
    """The product in GF(2**8)."""
    result = product(x, y)
    for bit in range(14, 7, -1):
        if result >> bit & 1:
            result ^= _MODULUS << bit - 8
    return result


def _substitution() -> bytes:
    """The S-box: the inverse, then an affine map."""
    inverse = [0] * 256
    for x in range(1, 256):
        if not inverse[x]:
            y = next(y for y in range(1, 256) if _times(x, y) == 1)
            inverse[x], inverse[y] = y, x
    spread = [x | x << 8 for x in inverse]
    return bytes((x ^ x >> 4 ^ x >> 5 ^ x >> 6 ^ x >> 7 ^ 0x63) & 255 for x in spread)


_FORWARD: Final = _substitution()
_BACKWARD: Final = bytes(_FORWARD.index(x) for x in range(256))
_ROWS: Final = bytes(5 * n % 16 for n in range(16))  # ShiftRows: byte n comes from there
_ROWS_BACK: Final = bytes(-3 * n % 16 for n in range(16))
_TIMES: Final = {k: bytes(_times(k, x) for x in range(256)) for k in (2, 3, 9, 11, 13, 14)}


def _mixed(state: bytes, *factors: int) -> int:
    """MixColumns with the matrix whose first row has these factors (1: as it is)."""
    out = bytearray(16)
    for n in range(16):
        column, row = n & 12, n & 3
        for k, factor in enumerate(factors):
            byte = state[column + (row + k) % 4]
            out[n] ^= byte if factor == 1 else _TIMES[factor][byte]
    return int.from_bytes(out, "little")


def _permuted(state: int, order: bytes, box: bytes) -> bytes:
    data = state.to_bytes(16, "little")
    return bytes(box[data[n]] for n in order)


@helper()
def aesenc(state: int, key: int) -> int:
    """One round of encryption."""
    return _mixed(_permuted(state, _ROWS, _FORWARD), 2, 3, 1, 1) ^ key


@helper()
def aesenclast(state: int, key: int) -> int:
    """The last round of encryption."""
    return int.from_bytes(_permuted(state, _ROWS, _FORWARD), "little") ^ key


@helper()
def aesdec(state: int, key: int) -> int:
    """One round of decryption, of the equivalent inverse cipher."""
    return _mixed(_permuted(state, _ROWS_BACK, _BACKWARD), 14, 11, 13, 9) ^ key


@helper()
def aesdeclast(state: int, key: int) -> int:
    """The last round of decryption."""
    return int.from_bytes(_permuted(state, _ROWS_BACK, _BACKWARD), "little") ^ key


@helper()
def aesimc(state: int) -> int:
    """A round key of encryption as the equivalent inverse cipher wants it."""
    return _mixed(state.to_bytes(16, "little"), 14, 11, 13, 9)


@helper()
def aeskeygenassist(state: int, constant: int) -> int:
    """What the key schedule needs of doublewords 1 and 3: substituted; rotated too, with a round constant."""
    words = []
    for word in (state >> 32 & _MASK32, state >> 96):
        substituted = int.from_bytes((_FORWARD[byte] for byte in word.to_bytes(4, "little")), "little")
        rotated = (substituted >> 8 | substituted << 24) & _MASK32
        words += [substituted, rotated ^ constant]
    return sum(word << 32 * n for n, word in enumerate(words))


@helper()
def pclmulqdq(x: int, y: int, chosen: int) -> int:
    """The carry-less product of one half of x (bit 0 of `chosen`) and one of y (bit 4)."""
    mask = (1 << 64) - 1
    return product(x >> 64 * (chosen & 1) & mask, y >> 64 * (chosen >> 4 & 1) & mask)


__all__ = ["aesdec", "aesdeclast", "aesenc", "aesenclast", "aesimc", "aeskeygenassist", "pclmulqdq", "product"]
