"""SIMD operations on the host's own SSE and AVX: `simd_text`.

The host's MXCSR is the guest's while generated code runs (`enter` and `leave` of a whole run see to that), with all
exceptions masked, as it has them where native code runs at all. So the host's instruction rounds, flushes and notes its
exceptions as the guest's does, which is why `raise` writes nothing, and why each is an asm of its own that is never
folded, moved against another or left out. On a host that is not x86-64 they have no native form.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from aiopyvm.engine.native.hostcpu import HAS_X86, has
from aiopyvm.engine.native.layout import CPU_OFFSETS
from aiopyvm.engine.native.llvmtext import Text, Unlowerable
from aiopyvm.engine.native.lower_vector import llvm_type
from aiopyvm.ir.builder import Value
from aiopyvm.ir.types import Type

_WHOLE: Final = 128  # bits of the smallest vector register
_CLOBBERS: Final = "~{dirflag},~{fpsr},~{flags}"
_BINARY: Final = {"vadd": "add", "vsub": "sub", "vmul": "mul", "vdiv": "div", "vmin": "min", "vmax": "max"}


def _host_type(type_: Type) -> str:
    """The LLVM type that a value has in a register."""
    name = {("f", 32): "float", ("f", 64): "double"}.get((type_.kind, type_.bits), f"i{type_.bits}")
    return name if type_.lanes == 1 else f"<{max(type_.lanes, _WHOLE // type_.bits)} x {name}>"


def _in(text: Text, value: str, type_: Type) -> str:
    """A value as a register holds it; lanes that it has not are anything but a signaling NaN: zero."""
    source, lanes = llvm_type(type_), type_.lanes
    if 1 < lanes < _WHOLE // type_.bits:
        wide = _WHOLE // type_.bits
        mask = ", ".join(f"i32 {min(lane, lanes)}" for lane in range(wide))
        value = text.value(f"shufflevector {source} {value}, {source} zeroinitializer, <{wide} x i32> <{mask}>")
        source = f"<{wide} x i{type_.bits}>"
    return _as(text, value, source, _host_type(type_))


def _out(text: Text, value: str, type_: Type) -> str:
    """A value from what a register holds."""
    lanes, wide = type_.lanes, max(type_.lanes, _WHOLE // type_.bits)
    whole = llvm_type(type_) if lanes == 1 else f"<{wide} x i{type_.bits}>"
    value = _as(text, value, _host_type(type_), whole)
    if 1 < lanes < wide:
        mask = ", ".join(f"i32 {lane}" for lane in range(lanes))
        value = text.value(f"shufflevector {whole} {value}, {whole} poison, <{lanes} x i32> <{mask}>")
    return value


def _as(text: Text, value: str, source: str, target: str) -> str:
    return value if source == target else text.value(f"bitcast {source} {value} to {target}")


def _suffix(type_: Type) -> str:
    return ("s" if type_.lanes == 1 else "p") + ("s" if type_.bits == 32 else "d")


def simd_text(text: Text, op: Value, arguments: Sequence[str]) -> str:
    """Write one of `ir.ops.SIMD_OPS`; its result's name. Raises Unlowerable."""
    source, result = op.args[0].type, op.type
    assert source is not None
    assert result is not None
    if not HAS_X86 or (source.size > _WHOLE and not has("avx")):
        raise Unlowerable(op.op)
    values = [_in(text, name, source) for name in arguments[:-1]]
    if op.op in _BINARY:
        template = _two(_BINARY[op.op] + _suffix(source))
    elif op.op == "vsqrt":
        template = _one("sqrt" + _suffix(source), source)
    else:
        raise Unlowerable(op.op)
    return _out(text, _asm(text, template, _host_type(result), values, _host_type(source)), result)


def _two(name: str) -> tuple[str, str]:
    """Template and constraints of $0 := $1 op $2."""
    return (f"v{name} $2, $1, $0", "=x,x,x") if has("avx") else (f"{name} $2, $0", "=x,0,x")


def _one(name: str, type_: Type) -> tuple[str, str]:
    """Template and constraints of $0 := op $1."""
    if not has("avx"):
        return f"{name} $1, $0", "=x,x"
    return (f"v{name} $1, $1, $0" if type_.lanes == 1 else f"v{name} $1, $0"), "=x,x"


def _asm(text: Text, template: tuple[str, str], result: str, values: Sequence[str], kind: str) -> str:
    operands = ", ".join(f"{kind} {value}" for value in values)
    code, constraints = template
    return text.fresh(f'call {result} asm sideeffect "{code}", "{constraints},{_CLOBBERS}"({operands})')


# -- MXCSR -------------------------------------------------------------------------------------------------------------


def _control(text: Text, template: str, slot: str, store: bool) -> None:
    constraint = "=*m" if store else "*m"
    text.line(f'call void asm sideeffect "{template} $0", "{constraint},{_CLOBBERS}"(ptr elementtype(i32) {slot})')


def read_mxcsr(text: Text) -> str:
    """MXCSR (i32) as it is here."""
    slot = text.slot("mxcsr", "i32", 4)
    _control(text, "stmxcsr", slot, store=True)
    return text.fresh(f"load i32, ptr {slot}")


def write_mxcsr(text: Text, value: str) -> None:
    """Set MXCSR, with all exceptions masked."""
    slot = text.slot("mxcsr", "i32", 4)
    text.line(f"store i32 {value}, ptr {slot}")
    _control(text, "ldmxcsr", slot, store=False)


def _guest(text: Text) -> str:
    return text.value(f"getelementptr i8, ptr %cpu, i64 {CPU_OFFSETS['mxcsr']}")


def enter(text: Text) -> None:
    """The host's MXCSR is the guest's; `leave`, in the same function, gives it back."""
    if HAS_X86:
        _control(text, "stmxcsr", text.slot("kept_mxcsr", "i32", 4), store=True)
        _control(text, "ldmxcsr", _guest(text), store=False)


def leave(text: Text) -> None:
    """The guest's MXCSR is in the CpuState, the host's is its own."""
    if HAS_X86:
        _control(text, "stmxcsr", _guest(text), store=True)
        _control(text, "ldmxcsr", text.slot("kept_mxcsr", "i32", 4), store=False)
        if has("avx"):
            text.line(f'call void asm sideeffect "vzeroupper", "{_CLOBBERS}"()')


__all__ = ["enter", "leave", "read_mxcsr", "simd_text", "write_mxcsr"]
