"""Approximate reciprocals and reciprocal square roots of f32 (RCPPS, RSQRTPS), as helpers on the four lanes of an i128.

Intel SDM vol. 2 bounds the relative error by 1.5 * 2**-12 and leaves the bits to the maker. So by default the result is
that of the host's own instruction, on every engine; with `portable_math` (the helpers' last argument), and on hosts
that have no such instruction, it is the number cut to 24 bits. Either way MXCSR counts for nothing and nothing is
raised: denormals are zeros, as operands and as results.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from math import isqrt
from typing import Final

from aiopyvm.ir.helpers import helper
from aiopyvm.isa.hostcode import executable

_SIGN: Final = 1 << 31
_FRACTION: Final = (1 << 23) - 1
_INFINITY: Final = 0x7F800000
_QUIET: Final = 1 << 22
_INDEFINITE: Final = 0xFFC00000
_BIAS: Final = 127 + 23  # of a number's exponent, its significand taken as an integer
_OPCODES: Final = {"rcpps": 0x53, "rsqrtps": 0x52}
_STRIDE: Final = 32  # bytes from one function to the next
_BEFORE: Final = bytes.fromhex("f30f1efa 0f1007")  # endbr64; movups xmm0, [rdi]
_AFTER: Final = bytes.fromhex("0f1107 c3")  # movups [rdi], xmm0; ret


@functools.cache
def host() -> Callable[[str, int], int] | None:
    """`execute(name, lanes)` by the host's instruction; None where there is none (`isa.hostcode`)."""
    code = b"".join(
        (_BEFORE + bytes((0x0F, opcode, 0xC0)) + _AFTER).ljust(_STRIDE, b"\xcc") for opcode in _OPCODES.values()
    )
    base = executable(code)
    if base is None:
        return None
    kind = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
    functions = {name: kind(base + _STRIDE * n) for n, name in enumerate(_OPCODES)}

    def execute(name: str, lanes: int) -> int:
        frame = (ctypes.c_char * 16).from_buffer_copy(lanes.to_bytes(16, "little"))
        functions[name](ctypes.addressof(frame))
        return int.from_bytes(frame, "little")

    return execute


def reciprocal(x: int) -> int:
    """1 / x of an f32, cut to 24 bits."""
    sign, exponent, significand = x & _SIGN, x >> 23 & 0xFF, x & _FRACTION
    if exponent == 0xFF:
        return x | _QUIET if significand else sign
    if not exponent:
        return sign | _INFINITY
    return sign | _number((1 << 71) // (significand | 1 << 23), _BIAS - exponent - 71)


def reciprocal_root(x: int) -> int:
    """1 / sqrt(x) of an f32, cut to 24 bits."""
    exponent, significand = x >> 23 & 0xFF, x & _FRACTION
    if exponent == 0xFF and significand:
        return x | _QUIET
    if not exponent:
        return x & _SIGN | _INFINITY
    if x & _SIGN:
        return _INDEFINITE
    if exponent == 0xFF:
        return 0
    power, odd = divmod(exponent - _BIAS, 2)
    return _number(isqrt((1 << 96) // ((significand | 1 << 23) << odd)), -power - 48)


def _number(significand: int, exponent: int) -> int:
    """significand * 2**exponent, positive, of more than 24 bits, cut to them; 0 where that is denormal."""
    shift = significand.bit_length() - 24
    biased = exponent + shift + _BIAS
    return biased << 23 | significand >> shift & _FRACTION if biased > 0 else 0


def _on_lanes(function: Callable[[int], int], lanes: int) -> int:
    return sum(function(lanes >> shift & 0xFFFFFFFF) << shift for shift in range(0, 128, 32))


def _approximate(name: str, function: Callable[[int], int], lanes: int, portable: int) -> int:
    execute = None if portable else host()
    return execute(name, lanes) if execute is not None else _on_lanes(function, lanes)


@helper()
def rcpps(lanes: int, portable: int) -> int:
    """Approximate reciprocals."""
    return _approximate("rcpps", reciprocal, lanes, portable)


@helper()
def rsqrtps(lanes: int, portable: int) -> int:
    """Approximate reciprocals of square roots."""
    return _approximate("rsqrtps", reciprocal_root, lanes, portable)


__all__ = ["host", "rcpps", "reciprocal", "reciprocal_root", "rsqrtps"]
