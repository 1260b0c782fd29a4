"""The host's own transcendental x87 instructions, as functions of encoded bits.

Each is a few bytes of machine code (`isa.hostcode`) that load a frame's operands and control word, execute the
instruction, and store what it left.

What always holds behind a call: the host's control word is what it was, its stack is empty, and no exception of the
guest's is pending. Unmasked exceptions are the guest's, too: the instruction then leaves what it would leave to a
handler of #MF, which never comes as nothing in between waits.
"""

from __future__ import annotations

import ctypes
import functools
import struct
from collections.abc import Callable
from typing import Final

from aiopyvm.isa.hostcode import executable

OPCODES: Final = {
    "f2xm1": 0xF0,
    "fyl2x": 0xF1,
    "fptan": 0xF2,
    "fpatan": 0xF3,
    "fyl2xp1": 0xF9,
    "fsincos": 0xFB,
    "fsin": 0xFE,
    "fcos": 0xFF,
}  # the second byte, behind D9
OF_TWO: Final = frozenset(("fyl2x", "fpatan", "fyl2xp1"))  # they replace ST(1) and pop

# The frame: ST(0), ST(1), the guest's control word, the host's, the status word; ST(0), ST(1) after the instruction.
_FRAME: Final = struct.Struct("<10s6x10s6xHHH10x10s6x10s6x")
_INPUTS: Final = struct.Struct("<10s6x10s6xH")
_STRIDE: Final = 64  # bytes from one function to the next
# endbr64; fnstcw [rdi + 34]; fnclex; fldcw [rdi + 32]; fld tbyte [rdi + 16]; fld tbyte [rdi]; without and with ST(1)
_BEFORE: Final = bytes.fromhex("f30f1efa d97f22 dbe2 d96f20")
_LOAD_SECOND: Final = bytes.fromhex("db6f10")
_LOAD_FIRST: Final = bytes.fromhex("db2f")
# fnstsw [rdi + 36]; fnclex; fldcw [rdi + 34]; fstp tbyte [rdi + 48]; fstp tbyte [rdi + 64]; fninit;
# fldcw [rdi + 34]; ret
_AFTER: Final = bytes.fromhex("dd7f24 dbe2 d96f22 db7f30 db7f40 dbe3 d96f22 c3")

Execute = Callable[[str, int, int, int], tuple[int, int, int]]


def _code() -> bytes:
    """All functions, in the order of `OPCODES`."""
    parts = []
    for name, opcode in OPCODES.items():
        loads = _LOAD_SECOND + _LOAD_FIRST if name in OF_TWO else _LOAD_FIRST
        parts.append((_BEFORE + loads + bytes((0xD9, opcode)) + _AFTER).ljust(_STRIDE, b"\xcc"))
    return b"".join(parts)


@functools.cache
def host() -> Execute | None:
    """`execute(name, st0, st1, control)` -> (ST(0), ST(1) after the instruction, status word); None where
    there can be no such code."""
    base = executable(_code())
    if base is None:
        return None
    kind = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)  # nobody else's code runs under the guest's control word
    functions = {name: kind(base + _STRIDE * n) for n, name in enumerate(OPCODES)}

    def execute(name: str, st0: int, st1: int, control: int) -> tuple[int, int, int]:
        frame = ctypes.create_string_buffer(_FRAME.size)
        _INPUTS.pack_into(frame, 0, st0.to_bytes(10, "little"), st1.to_bytes(10, "little"), control)
        functions[name](ctypes.addressof(frame))
        *_, status, first, second = _FRAME.unpack(frame)
        return int.from_bytes(first, "little"), int.from_bytes(second, "little"), status

    return execute


__all__ = ["OF_TWO", "OPCODES", "Execute", "host"]
