"""Helpers that are one instruction of the host: `host_text`. They have no native form on a host that lacks it.

Operands and results are vector registers, but for the comparisons of strings, whose result is put together from ECX, or
from XMM0, as a mask of bits, and the flags; its parts are known, so that who looks at one needs the others no longer. A
last operand that is a constant is the instruction's immediate. None of them has an effect. Where CpuState.portable_math
is the last operand the caller has seen to it that it is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aiopyvm.engine.native.hostcpu import has
from aiopyvm.engine.native.llvmtext import Text, Unlowerable
from aiopyvm.ir.builder import Value
from aiopyvm.isa.pcmpstr import CARRY, LAST, OVERFLOW, SIGN, ZERO

_KIND: Final = "<2 x i64>"
_CLOBBERS: Final = "~{dirflag},~{fpsr},~{flags}"
_PURE: Final = "nounwind willreturn memory(none)"


@dataclass(frozen=True, slots=True)
class Host:
    """`flag`: what the host must have, as Linux calls it; `vex`: there is a form with VEX; `unary`: one operand;
    `immediate`: the bits of the immediate that it gets.
    """

    flag: str
    vex: bool = False
    unary: bool = False
    immediate: int = 0xFF


HOST: Final = {
    **dict.fromkeys(("aesenc", "aesenclast", "aesdec", "aesdeclast"), Host("aes", vex=True)),
    **dict.fromkeys(("aesimc", "aeskeygenassist"), Host("aes", vex=True, unary=True)),
    "pclmulqdq": Host("pclmulqdq", vex=True),
    **dict.fromkeys(
        ("sha1rnds4", "sha1nexte", "sha1msg1", "sha1msg2", "sha256rnds2", "sha256msg1", "sha256msg2"), Host("sha_ni")
    ),
    **dict.fromkeys(("pcmpestr", "pcmpistr"), Host("sse4_2", vex=True, immediate=0x3F)),
    **dict.fromkeys(("rcpps", "rsqrtps"), Host("sse", vex=True, unary=True)),
    **dict.fromkeys(("pcmpestri", "pcmpistri"), Host("sse4_2", vex=True)),
}


def is_host(op: Value) -> bool:
    """Tell whether an operation is a helper that has a native form on this host."""
    host = HOST.get(op.attr.name) if op.op == "helper" else None
    return host is not None and has(host.flag)


def may_be_portable(op: Value) -> bool:
    """Tell whether an operation is a helper that has a portable definition too, wanted where its last operand is 1."""
    return op.op == "helper" and bool(op.args) and op.args[-1].op == "get" and op.args[-1].attr == "portable_math"


def host_text(text: Text, op: Value, arguments: Sequence[str]) -> str:
    """Write a helper of those; its result's name. Raises Unlowerable."""
    if not is_host(op):
        raise Unlowerable(f"helper {op.attr.name}")
    name, host = op.attr.name, HOST[op.attr.name]
    operands, immediate = list(arguments), ""
    if may_be_portable(op):
        operands.pop()
    elif op.args[-1].type is not None and op.args[-1].bits == 8:
        if op.args[-1].op != "const":
            raise Unlowerable(f"{name} with an immediate that is not known")
        immediate = f"$${op.args[-1].attr & host.immediate}, "
        operands.pop()
    vex = host.vex and has("avx")
    if name.startswith("pcmp"):
        suffix = "" if name.endswith("i") else "m"
        last = bool(op.args[-1].attr & LAST)
        return _strings(text, f"{'v' * vex}{name}{suffix} {immediate}", operands, index=not suffix, last=last)
    template = f"{'v' * vex}{name} {immediate}"
    if host.unary:
        return _asm(text, f"{template}$1, $0", "=x,x", operands)
    if vex:
        return _asm(text, f"{template}$2, $1, $0", "=x,x,x", operands)
    return _asm(text, f"{template}$2, $0", "=x,0,x" + ",{xmm0}" * (len(operands) - 2), operands)


def _asm(text: Text, template: str, constraints: str, operands: Sequence[str]) -> str:
    listed = ", ".join(f"{_KIND} {operand}" for operand in operands)
    return text.value(f'call {_KIND} asm "{template}", "{constraints},{_CLOBBERS}"({listed})')


def _strings(text: Text, template: str, operands: Sequence[str], *, index: bool, last: bool) -> str:
    """What the helpers return; operands behind the vectors are EAX and EDX. CF, ZF and SF come by LAHF: SETcc competes
    for what compares. An index tells OF as well: 0 is the first element, unless it is that of the `last` one found.
    """
    register = "={ecx}" if index else "={xmm0}"
    lengths = "".join(f", i32 {length}" for length in operands[2:])
    listed = ", ".join(f"{_KIND} {operand}" for operand in operands[:2]) + lengths
    inputs = "x,x" + (",{eax},{edx}" if lengths else "")
    code = "\\0A\\09".join((f"{template}$3, $2", "lahf", *([] if index and not last else ["seto %al"])))
    kinds = f"{{{'i32' if index else _KIND}, i32}}"
    both = text.value(f'call {kinds} asm "{code}", "{register},={{eax}},{inputs},{_CLOBBERS}"({listed}) {_PURE}')
    whole, flags = (text.value(f"extractvalue {kinds} {both}, {number}") for number in range(2))
    carry, zero, sign = (_bit(text, flags, bit) for bit in (CARRY, ZERO, SIGN))
    if not index:
        bits = text.value(f"trunc i64 {text.value(f'extractelement {_KIND} {whole}, i64 0')} to i16")
        return _together(text, "i18", [(16, 0, bits), (1, 16, zero), (1, 17, sign)])
    either = text.value(f"icmp ne i32 {text.value(f'and i32 {flags}, {1 << CARRY | 1 << ZERO}')}, 0")
    text.know_below_or_equal(carry, zero, either)
    overflow = _bit(text, flags, OVERFLOW) if last else text.value(f"icmp eq i32 {whole}, 0")
    moved = text.value(f"shl i32 {whole}, 1")
    low = text.value(f"or disjoint i32 {moved}, {text.value(f'zext i1 {overflow} to i32')}")
    masked = text.value(f"and i32 {flags}, {0xFF << CARRY}")
    found = text.value(f"trunc i32 {text.value(f'or disjoint i32 {masked}, {low}')} to i16")
    for place, part in ((CARRY, carry), (ZERO, zero), (SIGN, sign), (OVERFLOW, overflow)):
        _know(text, "i16", found, place, 1, part)
    short = text.value(f"trunc i32 {whole} to i5")
    _know(text, "i16", found, 1, 5, short)
    text.know(f"zext i5 {short} to i32", whole)
    return found


def _know(text: Text, type_: str, value: str, place: int, bits: int, part: str) -> None:
    """`bits` of `value` from `place` on are `part`."""
    source = text.value(f"lshr {type_} {value}, {place}") if place else value
    text.know(f"trunc {type_} {source} to i{bits}", part)


def _bit(text: Text, word: str, number: int) -> str:
    moved = text.value(f"lshr i32 {word}, {number}") if number else word
    return text.value(f"trunc i32 {moved} to i1")


def _together(text: Text, type_: str, parts: Sequence[tuple[int, int, str]]) -> str:
    """The value that has those parts (bits, place, name), each of which is what reading it gives."""
    found = ""
    for bits, place, part in parts:
        moved = text.value(f"shl {type_} {text.value(f'zext i{bits} {part} to {type_}')}, {place}")
        found = text.value(f"or {type_} {found}, {moved}") if found else moved
    for bits, place, part in parts:
        _know(text, type_, found, place, bits, part)
    return found


__all__ = ["HOST", "host_text", "is_host", "may_be_portable"]
