"""SIMD operations on the host's own SSE and AVX: `simd_text`.

The host's MXCSR is the guest's while generated code runs (`enter` and `leave` of a whole run see to that), but with all
exceptions masked; which the guest has masked stands in its CpuState, and where it is not all of them no operation is
executed here. So the host's instruction rounds, flushes and notes its exceptions as the guest's does, which is why
`raise` writes nothing, and why each is an asm of its own that is never folded, moved against another or left out. On a
host that is not x86-64 they have no native form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from aiopyvm.engine.native.hostcpu import HAS_X86, has
from aiopyvm.engine.native.layout import CPU_OFFSETS
from aiopyvm.engine.native.llvmtext import LIKELY, NUMBERS, Text, Unlowerable
from aiopyvm.engine.native.lower_vector import llvm_type
from aiopyvm.ir.builder import Value
from aiopyvm.ir.ops import SIMD_OPS
from aiopyvm.ir.types import F32, F64, Type
from aiopyvm.isa.state import MXCSR_MASKS

_FLAGS: Final = 0x3F  # of exceptions, in MXCSR
_MASK_OF_FLAG: Final = 7  # how far above a flag its mask stands
_UNDERFLOW: Final = 0x10  # UE: unmasked, it is raised by what is tiny and exact, too
_BITS: Final = {kind: bits for bits, kind in NUMBERS.items()}
_WHOLE: Final = 128  # bits of the smallest vector register
_CLOBBERS: Final = "~{dirflag},~{fpsr},~{flags}"
_LEGACY_PREDICATES: Final = 8  # that CMPPS has without VEX
_BINARY: Final = {f"v{name}": name for name in ("add", "sub", "addsub", "mul", "div", "min", "max")}
# VFMADD.. by which of factor, factor and addend is its first operand: that, its digits, the operands behind it.
_FUSED: Final = ((2, "231", [0, 1]), (1, "213", [0, 2]), (0, "132", [2, 1]))

Template = tuple[str, str]  # of an asm, with its constraints


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
    bits = _BITS.get(source) or _BITS.get(target, 0)
    if bits and target == f"i{bits}":
        return text.of_number(value, bits)
    if bits and source == f"i{bits}":
        return text.as_number(value, bits)
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
    if op.op == "vorder":
        return _order(text, values, source, quiet=op.attr)
    found = _asm(text, _template(op, source, result), _host_type(result), values, _host_type(source))
    return _out(text, found, result)


# -- results in the low lane of a vector -------------------------------------------------------------------------------


def low_results(ops: Sequence[Value]) -> dict[Value, Value]:
    """The operations on one number whose result becomes the low lane of a vector, each with that `insert`.

    The host's instruction keeps the other lanes by itself, in its first operand.
    """
    found: dict[Value, Value] = {}
    place = {op: number for number, op in enumerate(ops)}
    for op in ops:
        if op.op == "insert" and op.attr == 0 and op.bits == _WHOLE:
            operation = _behind_casts(op.args[1])
            vector = kept(op)
            before = place.get(vector, -1) < place.get(operation, -1)  # the vector is there when it is wanted
            if operation not in found and before and _keeps_lanes(operation, vector):
                found[operation] = op
    return found


def _keeps_lanes(operation: Value, vector: Value) -> bool:
    """Tell whether the host's instruction can have the other lanes of `vector` in its result."""
    if operation.op not in SIMD_OPS or operation.op == "vcompare" or operation.type not in (F32, F64):
        return False
    if operation.op == "vfma":
        return any(_is_low_lane(operation.args[number], vector) for number, _, _ in _FUSED)
    return operation.op not in _BINARY or _is_low_lane(operation.args[0], vector)


def kept(insert: Value) -> Value:
    """The vector whose other lanes an `insert` keeps."""
    return _behind_casts(insert.args[0])


def _behind_casts(value: Value) -> Value:
    while value.op == "bitcast":
        value = value.args[0]
    return value


def _is_low_lane(value: Value, vector: Value) -> bool:
    value = _behind_casts(value)
    return value.op == "extract" and value.attr == 0 and _behind_casts(value.args[0]) is vector


def simd_into(text: Text, op: Value, insert: Value, vector: str, arguments: Sequence[str]) -> str:
    """Write one of `low_results`: the name of its `insert`. `vector`: that of `kept`. Raises Unlowerable."""
    source, result, root = op.args[0].type, op.type, kept(insert).type
    assert source is not None
    assert result is not None
    assert root is not None
    if not HAS_X86:
        raise Unlowerable(op.op)
    code, constraints = _template(op, source, result)
    others = [len(arguments) - 2]
    if op.op == "vfma":
        digits, others = next(row[1:] for row in _FUSED if _is_low_lane(op.args[row[0]], kept(insert)))
        code, constraints = f"vf{op.attr}{digits}{_suffix(source)} $3, $2, $0", "=x,0,x,x"
    elif op.op not in _BINARY:
        name = code.partition(" $1")[0]
        integer = "r" if op.op == "vfromint" else "x"
        code, constraints = (
            (f"{name} $2, $1, $0", f"=x,x,{integer}") if has("avx") else (f"{name} $2, $0", f"=x,0,{integer}")
        )
    whole = f"<{_WHOLE // result.bits} x {_host_type(result)}>"
    operands = f"{whole} {_as(text, vector, llvm_type(root), whole)}"
    for number in others:
        operands += f", {_host_type(source)} {_in(text, arguments[number], source)}"
    found = text.fresh(f'call {whole} asm sideeffect "{code}", "{constraints},{_CLOBBERS}"({operands})')
    return _as(text, found, whole, llvm_type(insert.type))


# -- how the host's instructions are written ---------------------------------------------------------------------------


def _template(op: Value, source: Type, result: Type) -> Template:
    """Template and constraints of an operation. Raises Unlowerable."""
    name, suffix = op.op, _suffix(source)
    if name in _BINARY:
        return _two(_BINARY[name] + suffix)
    match name:
        case "vsqrt":
            return _one("sqrt" + suffix, merges=source.lanes == 1)
        case "vround" if has("sse4_1"):
            return _one(f"round{suffix} $${op.attr & 15},", merges=source.lanes == 1)
        case "vcompare" if op.attr < _LEGACY_PREDICATES or has("avx"):
            return _two(f"cmp{suffix} $${op.attr},")
        case "vfma" if has("fma"):
            return f"vf{op.attr}231{suffix} $2, $1, $0", "=x,x,x,0"
        case "vfromhalf" if has("f16c"):
            return "vcvtph2ps $1, $0", "=x,x"
        case "vtohalf" if has("f16c"):
            return f"vcvtps2ph $${op.attr}, $1, $0", "=x,x"
        case "vconvert" | "vfromint" | "vtoint":
            return _conversion(op, source, result)
    raise Unlowerable(name)


def _conversion(op: Value, source: Type, result: Type) -> Template:
    """CVT.. between the types; with a T where it truncates."""
    names = {("f", 32): "ps", ("f", 64): "pd", ("i", 32): "dq"}
    scalars = {("f", 32): "ss", ("f", 64): "sd", ("i", 32): "si"}
    kinds = scalars if source.lanes == 1 else names
    truncate = "t" if op.op == "vtoint" and op.attr else ""
    name = f"cvt{truncate}{kinds[source.kind, source.bits]}2{kinds[result.kind, result.bits]}"
    if source.lanes > 1:
        if has("avx") and (source.kind, source.bits) == ("f", 64):  # the result's register does not tell
            name += "x" if source.size <= _WHOLE else "y"
        return _one(name, merges=False)
    if op.op == "vtoint":
        return _prefixed(name) + " $1, $0", "=r,x"
    if op.op == "vfromint":
        return (f"v{name}l $1, $0, $0", "=x,r") if has("avx") else (f"{name}l $1, $0", "=x,r")
    return _one(name, merges=True)


def _order(text: Text, values: Sequence[str], type_: Type, *, quiet: bool) -> str:
    """UCOMIS or COMIS: CF and, one bit higher, ZF. Who looks at one of them, or at either, has the host's flag."""
    kind, name = _host_type(type_), _prefixed(("u" if quiet else "") + "comi" + _suffix(type_))
    code = f"{name} $4, $3\\0A\\09setb $0\\0A\\09sete $1\\0A\\09setbe $2"  # LLVM may lose flags that are outputs
    result = "{i8, i8, i8}"
    every = text.fresh(f'call {result} asm sideeffect "{code}", "=q,=q,=q,x,x,{_CLOBBERS}"'
                       f"({kind} {values[0]}, {kind} {values[1]})")  # fmt: skip
    parts = [text.fresh(f"extractvalue {result} {every}, {number}") for number in range(3)]
    carry, zero, below_or_equal = (text.fresh(f"trunc i8 {part} to i1") for part in parts)
    found = text.fresh(f"or i8 {parts[0]}, {text.fresh(f'shl i8 {parts[1]}, 1')}")
    text.know(f"trunc i8 {found} to i1", carry)
    text.know(f"trunc i8 {text.value(f'lshr i8 {found}, 1')} to i1", zero)
    text.know_below_or_equal(carry, zero, below_or_equal)
    return found


def _prefixed(name: str) -> str:
    return f"v{name}" if has("avx") else name


def _two(name: str) -> Template:
    """Template and constraints of $0 := $1 op $2."""
    return (f"v{name} $2, $1, $0", "=x,x,x") if has("avx") else (f"{name} $2, $0", "=x,0,x")


def _one(name: str, *, merges: bool) -> Template:
    """Template and constraints of $0 := op $1; `merges`: the VEX form takes the other lanes from a further operand."""
    if not has("avx"):
        return f"{name} $1, $0", "=x,x"
    return (f"v{name} $1, $1, $0" if merges else f"v{name} $1, $0"), "=x,x"


def _asm(text: Text, template: Template, result: str, values: Sequence[str], kind: str) -> str:
    operands = ", ".join(f"{kind} {value}" for value in values)
    code, constraints = template
    return text.fresh(f'call {result} asm sideeffect "{code}", "{constraints},{_CLOBBERS}"({operands})')


# -- MXCSR -------------------------------------------------------------------------------------------------------------


def _control(text: Text, template: str, slot: str, store: bool) -> None:
    constraint = "=*m" if store else "*m"
    text.line(f'call void asm sideeffect "{template} $0", "{constraint},{_CLOBBERS}"(ptr elementtype(i32) {slot})')


def read_mxcsr(text: Text) -> str:
    """The guest's MXCSR (i32) as it is here."""
    slot = text.slot("mxcsr", "i32", 4)
    _control(text, "stmxcsr", slot, store=True)
    rest = text.fresh(f"and i32 {text.fresh(f'load i32, ptr {slot}')}, {~MXCSR_MASKS}")
    return text.fresh(f"or i32 {rest}, {masks(text)}")


def write_mxcsr(text: Text, value: str) -> None:
    """Set MXCSR."""
    text.line(f"store i32 {value}, ptr {_guest(text)}")
    _load_masked(text, value)


def _load_masked(text: Text, value: str) -> None:
    """The host's MXCSR is `value`, with all exceptions masked."""
    slot = text.slot("mxcsr", "i32", 4)
    text.line(f"store i32 {text.fresh(f'or i32 {value}, {MXCSR_MASKS}')}, ptr {slot}")
    _control(text, "ldmxcsr", slot, store=False)


def masks(text: Text) -> str:
    """The guest's masks of exceptions (i32), at their place in MXCSR."""
    return text.fresh(f"and i32 {text.fresh(f'load i32, ptr {_guest(text)}')}, {MXCSR_MASKS}")


def _guest(text: Text) -> str:
    return text.value(f"getelementptr i8, ptr %cpu, i64 {CPU_OFFSETS['mxcsr']}")


def begin_noting(text: Text, step_label: Callable[[], str]) -> None:
    """Before an instruction's operations: where not all exceptions are masked, the flags must be able to tell which are
    raised; else it is left to Python. `leave_noted`, behind them, looks.
    """
    go = _unless_masked(text)
    before = text.slot("before_mxcsr", "i32", 4)
    _control(text, "stmxcsr", before, store=True)
    tiny = text.fresh(f"or i32 {text.fresh(f'load i32, ptr {before}')}, {_UNDERFLOW}")
    _leave_if_unmasked(text, tiny, step_label(), go)


def leave_noted(text: Text, step_label: Callable[[], str]) -> None:
    """Leave to Python an instruction that has raised what is not masked, as if nothing were raised."""
    go, undo = _unless_masked(text), text.new_label()
    slot = text.slot("mxcsr", "i32", 4)
    _control(text, "stmxcsr", slot, store=True)
    _leave_if_unmasked(text, text.fresh(f"load i32, ptr {slot}"), undo, "")
    text.line(f"br label %{go}")
    text.label(undo)
    _control(text, "ldmxcsr", text.slot("before_mxcsr", "i32", 4), store=False)
    text.line(f"br label %{step_label()}")
    text.label(go)


def _unless_masked(text: Text) -> str:
    """Go to the label returned where all exceptions are masked; what is written next is for where they are not."""
    go, look = text.new_label(), text.new_label()
    text.branch(text.fresh(f"icmp eq i32 {masks(text)}, {MXCSR_MASKS}"), go, look, LIKELY)
    text.label(look)
    return go


def _leave_if_unmasked(text: Text, flags: str, leave: str, go: str) -> None:
    """Go to `leave` where `flags` (i32) has an exception that is not masked, else to `go`, or on."""
    fine = go or text.new_label()
    masked = text.fresh(f"lshr i32 {masks(text)}, {_MASK_OF_FLAG}")
    raised = text.fresh(f"and i32 {flags}, {text.fresh(f'xor i32 {masked}, {_FLAGS}')}")
    text.branch(text.fresh(f"icmp eq i32 {text.fresh(f'and i32 {raised}, {_FLAGS}')}, 0"), fine, leave, LIKELY)
    text.label(fine)


def enter(text: Text) -> None:
    """The host's MXCSR is the guest's; `leave`, in the same function, gives it back."""
    if HAS_X86:
        _control(text, "stmxcsr", text.slot("kept_mxcsr", "i32", 4), store=True)
        _load_masked(text, text.fresh(f"load i32, ptr {_guest(text)}"))


def leave(text: Text) -> None:
    """The guest's MXCSR is in the CpuState, the host's is its own."""
    if HAS_X86:
        text.line(f"store i32 {read_mxcsr(text)}, ptr {_guest(text)}")
        _control(text, "ldmxcsr", text.slot("kept_mxcsr", "i32", 4), store=False)
        if has("avx"):
            text.line(f'call void asm sideeffect "vzeroupper", "{_CLOBBERS}"()')


__all__ = [
    "begin_noting", "enter", "kept", "leave", "leave_noted", "low_results", "masks", "read_mxcsr", "simd_into",
    "simd_text", "write_mxcsr",
]  # fmt: skip
