"""Floating-point operations on the host's own x87: `float_text` for those of `ir.ops`, `float_helper_text` for helpers.

On a host that has no x87 they have no native form. An operation's operands are memory: registers of the guest where
they are, all else through slots of the stack frame. The control word is the guest's with all exceptions masked (which
it has where native code runs); outside of an operation it is `HOST_CONTROL`: `enter` and `leave` of a whole run see to
that. No two operations share an asm, and each is volatile, so that nothing is folded, reordered or computed under
another control word.

The host's exceptions are sticky (`Context.x87` has them), and clearing them is slow: they are cleared before an
operation only where one of them is not in the guest's status word. So `fexc` may have exceptions of earlier operations
too, but only such as the guest's status word has already, to which `isa.x87.complete` adds what it is given. C1 is
always the operation's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from aiopyvm.engine.native.hostcpu import HAS_X86
from aiopyvm.engine.native.layout import CONTEXT_OFFSETS
from aiopyvm.engine.native.llvmtext import LIKELY, Text, Unlowerable
from aiopyvm.ir.builder import Value

HAS_X87: Final = HAS_X86
HOST_CONTROL: Final = 0x37F
_MASKED: Final = 0x3F
_EXCEPTIONS: Final = 0x3F
_C1_TO_RESULT: Final = 2  # bit 9 of the status word to bit 7
_C0, _C3 = 8, 14  # bit numbers
_TRUNCATE: Final = 0xC00  # rounding control

_SIZES: Final = {16: "s", 32: "l", 64: "ll"}  # of integers, as fild and fistp have them
_FLOATS: Final = {32: "s", 64: "l", 80: "t"}
_FSUBP: Final = ".byte 0xde,0xe9"  # ST(1) - ST(0); assemblers do not agree on the name
_FDIVP: Final = ".byte 0xde,0xf9"
_BINARY: Final = {"fadd": "faddp", "fsub": _FSUBP, "fmul": "fmulp", "fdiv": _FDIVP}
_UNARY: Final = {"fsqrt": "fsqrt", "frint": "frndint"}
_COMPARE: Final = {"fcompare": "fcompp", "fcompareq": "fucompp"}
_WITH_MEMORY: Final = frozenset("fadd fsub fsubr fmul fdiv fdivr".split())
_CLOBBERS: Final = "".join(f",~{{st({n})}}" if n else "~{st}" for n in range(8)) + ",~{dirflag},~{fpsr},~{flags}"
_FXAM_CODES: Final = 0x4700
_WIDE: Final = 80
_C2: Final = 0x400
_EXPONENT: Final = 0x7FFF
_ZERO, _SPECIAL, _EMPTY = 1, 2, 3  # tags

# Helpers that are one instruction. Slots: what it writes, then its operands.
_FUNCTION: Final = "_results"  # what the names of the transcendental functions' helpers end with
_PUSHING: Final = frozenset(("fsincos_results", "fptan_results"))
_REMAINDERS: Final = frozenset(("fprem_packed", "fprem1_packed"))
_IN_PLACE: Final = "fldt @1; {0}; fnstsw %ax; fstpt @0"
_POPPING: Final = "fldt @2; fldt @1; {0}; fnstsw %ax; fstpt @0"
_KEEPING: Final = "fldt @2; fldt @1; {0}; fnstsw %ax; fstpt @0; fstp %st(0)"
_REPLACING: Final = "fldt @2; {0}; fnstsw %ax; testb $$4, %ah; jnz 1f; fstpt @1; 1: fstpt @0"  # C2: nothing is pushed
_TEMPLATES: Final = {
    **{f"{name}_packed": _KEEPING.format(name) for name in ("fprem", "fprem1")},
    **{f"{name}{_FUNCTION}": _IN_PLACE.format(name) for name in ("fsin", "fcos", "f2xm1")},
    **{f"{name}{_FUNCTION}": _POPPING.format(name) for name in ("fpatan", "fyl2x", "fyl2xp1")},
    **{f"{name}{_FUNCTION}": _REPLACING.format(name) for name in ("fsincos", "fptan")},
    "fxtract_significand": "fldt @1; fxtract; fnstsw %ax; fstpt @0; fstp %st(0)",
    "fxtract_exponent": "fldt @1; fxtract; fnstsw %ax; fstp %st(0); fstpt @0",
    "fbld_value": "fbld @1; fnstsw %ax; fstpt @0",
    "fbstp_packed": "fldt @1; fbstp @0; fnstsw %ax",
}
_ROUNDED: Final = frozenset(name for name in _TEMPLATES if name.endswith(_FUNCTION)) | {"fbstp_packed"}


def _asm(text: Text, template: str, slots: Sequence[str], outputs: int = 0, status: bool = False) -> str:
    """Write one asm over slots, the first `outputs` of which it writes; the status word (i16) it leaves in AX."""
    constraints = [*(["={ax}"] if status else []), *["=*m"] * outputs, *["*m"] * (len(slots) - outputs), _CLOBBERS]
    shift = 1 if status else 0
    for n in reversed(range(len(slots))):
        template = template.replace(f"@{n}", f"${n + shift}")
    operands = ", ".join(f"ptr elementtype([16 x i8]) {slot}" for slot in slots)
    kind = "i16" if status else "void"
    call = f'call {kind} asm sideeffect "{template}", "{",".join(constraints)}"({operands})'
    if status:
        return text.fresh(call)
    text.line(call)
    return ""


class Operand(str):
    """The name of a pointer to the operand, where a name of its value is expected."""


def _slot(text: Text, name: str) -> str:
    return text.slot(f"x87{name}", "[16 x i8]", 16)


def _store(text: Text, name: str, value: str, bits: int) -> str:
    """Put an operand into a slot, unless it is one that is in memory; its address."""
    if isinstance(value, Operand):
        return value
    slot = _slot(text, name)
    if bits != 80:
        text.line(f"store i{bits} {value}, ptr {slot}")
        return slot
    text.line(f"store i64 {text.value(f'trunc i80 {value} to i64')}, ptr {slot}")
    high = text.value(f"trunc i80 {text.value(f'lshr i80 {value}, 64')} to i16")
    text.line(f"store i16 {high}, ptr {text.value(f'getelementptr i8, ptr {slot}, i64 8')}")
    return slot


def _load(text: Text, slot: str, bits: int) -> str:
    if bits != 80:
        return text.fresh(f"load i{bits}, ptr {slot}")
    low = text.value(f"zext i64 {text.fresh(f'load i64, ptr {slot}')} to i80")
    place = text.value(f"getelementptr i8, ptr {slot}, i64 8")
    high = text.value(f"zext i16 {text.fresh(f'load i16, ptr {place}')} to i80")
    return text.value(f"or i80 {low}, {text.value(f'shl i80 {high}, 64')}")


def _set_control(text: Text, control: str) -> str:
    """Load the guest's control word where it is not the host's; the condition (i1) that it is."""
    masked = text.value(f"or i16 {control}, {_MASKED}")
    usual = text.value(f"icmp eq i16 {masked}, {HOST_CONTROL}")
    change, go = text.new_label(), text.new_label()
    text.branch(usual, go, change, LIKELY)
    text.label(change)
    slot = _slot(text, "control")
    text.line(f"store i16 {masked}, ptr {slot}")
    _asm(text, "fldcw @0", [slot])
    text.line(f"br label %{go}")
    text.label(go)
    return usual


def _held(text: Text) -> str:
    """Where the host's exceptions are noted."""
    return text.value(f"getelementptr i8, ptr %ctx, i64 {CONTEXT_OFFSETS['x87']}")


def forget(text: Text, known: str) -> None:
    """Clear the host's exceptions where there is one that `known` (i16) has not."""
    status = text.fresh(f"load i16, ptr {_held(text)}")
    others = text.fresh(f"and i16 {text.fresh(f'xor i16 {known}, -1')}, {_EXCEPTIONS}")
    clear, go = text.new_label(), text.new_label()
    text.branch(text.fresh(f"icmp eq i16 {text.fresh(f'and i16 {status}, {others}')}, 0"), go, clear, LIKELY)
    text.label(clear)
    _asm(text, "fnclex", [])
    text.line(f"br label %{go}")
    text.label(go)


def _restore(text: Text, usual: str) -> None:
    """The host's control word is `HOST_CONTROL` again."""
    change, done, slot = text.new_label(), text.new_label(), _slot(text, "control")
    text.branch(usual, done, change, LIKELY)
    text.label(change)
    text.line(f"store i16 {HOST_CONTROL}, ptr {slot}")
    _asm(text, "fldcw @0", [slot])
    text.line(f"br label %{done}")
    text.label(done)


def _operate(
    text: Text, template: str, slots: Sequence[str], outputs: int, control: str, known: str
) -> tuple[str, str]:
    """One operation; the status word (i16), and its exceptions (i8) as `fexc` has them."""
    if not HAS_X87:
        raise Unlowerable("this host has no x87")
    forget(text, known)
    usual = _set_control(text, control) if control else ""
    status = _asm(text, template, slots, outputs, status=True)
    raised = text.value(f"and i16 {status}, {_EXCEPTIONS}")
    text.line(f"store i16 {raised}, ptr {_held(text)}")
    up = text.value(f"and i16 {text.value(f'lshr i16 {status}, {_C1_TO_RESULT}')}, 128")
    exceptions = text.value(f"trunc i16 {text.value(f'or i16 {raised}, {up}')} to i8")
    if usual:
        _restore(text, usual)
    return status, exceptions


def _relation(text: Text, status: str) -> str:
    """0 greater, 1 less, 2 equal, 3 unordered (i8), from the condition codes."""
    less = text.value(f"and i16 {text.value(f'lshr i16 {status}, {_C0}')}, 1")
    equal = text.value(f"and i16 {text.value(f'lshr i16 {status}, {_C3 - 1}')}, 2")
    return text.value(f"trunc i16 {text.value(f'or i16 {less}, {equal}')} to i8")


def float_text(text: Text, op: Value, arguments: Sequence[str], known: str) -> tuple[str, str]:
    """Write an operation of `ir.ops.FLOAT_OPS`; its result's name, and that of its exceptions (i8).

    `known` (i16) is the guest's status word. An f80 argument may be an `Operand`.

    Raises Unlowerable.
    """
    assert op.args[0].type is not None
    name, source = op.op, op.args[0].type
    if source.lanes != 1:
        raise Unlowerable(name)
    if name == "fromint" and source.bits in _SIZES and op.bits == 80:
        return _through(text, f"fild{_SIZES[source.bits]} @1; fnstsw %ax; fstpt @0", arguments, source.bits, 80, known)
    if name == "fconvert" and op.bits == 80 and source.bits in (32, 64):
        return _through(text, f"fld{_FLOATS[source.bits]} @1; fnstsw %ax; fstpt @0", arguments, source.bits, 80, known)
    if source.bits != 80:
        raise Unlowerable(f"{name} of {source}")
    if name == "fconvert" and op.bits in (32, 64):
        return _through(text, f"fldt @1; fstp{_FLOATS[op.bits]} @0; fnstsw %ax", arguments, 80, op.bits, known)
    if name == "toint" and op.bits in _SIZES:
        if _truncates(op.args[1]):
            truncation = f"fldt @1; fisttp{_SIZES[op.bits]} @0; fnstsw %ax"
            return _through(text, truncation, [arguments[0], ""], 80, op.bits, known)
        return _through(text, f"fldt @1; fistp{_SIZES[op.bits]} @0; fnstsw %ax", arguments, 80, op.bits, known)
    if name in _UNARY:
        return _through(text, f"fldt @1; {_UNARY[name]}; fnstsw %ax; fstpt @0", arguments, 80, 80, known)
    return _of_two(text, name, arguments, known)


def _truncates(control: Value) -> bool:
    """Whether rounding is toward zero whatever the guest's control word says (FISTTP)."""
    return control.op == "or" and any(arg.op == "const" and arg.attr == _TRUNCATE for arg in control.args)


def _through(
    text: Text, template: str, arguments: Sequence[str], source: int, result: int, known: str
) -> tuple[str, str]:
    """An operation of one operand: what it wrote, and its exceptions."""
    slots = [_slot(text, "result"), _store(text, "x", arguments[0], source)]
    _, exceptions = _operate(text, template, slots, 1, arguments[1], known)
    return _load(text, slots[0], result), exceptions


def _of_two(text: Text, name: str, arguments: Sequence[str], known: str) -> tuple[str, str]:
    x, y, control = arguments
    slots = [_store(text, "x", x, 80), _store(text, "y", y, 80)]
    if name in _COMPARE:
        status, exceptions = _operate(text, f"fldt @1; fldt @0; {_COMPARE[name]}; fnstsw %ax", slots, 0, "", known)
        return _relation(text, status), exceptions
    result = _slot(text, "result")
    if name == "fscale":
        template = "fldt @2; fldt @1; fscale; fnstsw %ax; fstpt @0; fstp %st(0)"
    elif name in _BINARY:
        template = f"fldt @1; fldt @2; {_BINARY[name]}; fnstsw %ax; fstpt @0"
    else:
        raise Unlowerable(name)
    _, exceptions = _operate(text, template, [result, *slots], 1, control, known)
    return _load(text, result, 80), exceptions


def float_helper_text(text: Text, op: Value, arguments: Sequence[str], known: str) -> str:
    """Write a `helper` that is one x87 operation, as `float_text` does; its result's name. Raises Unlowerable."""
    name, _, operand = op.attr.name.partition("_")
    if op.attr.name == "fxam_class":
        slots = [_store(text, "x", arguments[0], 80)]
        if not HAS_X87:
            raise Unlowerable("this host has no x87")
        status = _asm(text, "fldt @0; fxam; fnstsw %ax; fstp %st(0)", slots, 0, status=True)
        return text.value(f"and i16 {status}, {_FXAM_CODES}")
    if op.attr.name == "x87_tag_word":
        return _tag_word(text, arguments)
    if op.attr.name in _TEMPLATES:
        return _by_template(text, op, arguments, known)
    if operand not in ("m32fp", "m64fp"):
        raise Unlowerable(f"helper {op.attr.name}")
    bits = op.args[1].bits
    slots = [_store(text, "x", arguments[0], 80), _store(text, "y", arguments[1], bits)]
    if name == "fcom":
        status, exceptions = _operate(text, f"fldt @0; fcomp{_FLOATS[bits]} @1; fnstsw %ax", slots, 0, "", known)
        return _packed(text, _relation(text, status), 8, exceptions)
    if name not in _WITH_MEMORY:
        raise Unlowerable(f"helper {op.attr.name}")
    result = _slot(text, "result")
    template = f"fldt @1; {name}{_FLOATS[bits]} @2; fnstsw %ax; fstpt @0"
    _, exceptions = _operate(text, template, [result, *slots], 1, arguments[2], known)
    return _packed(text, _load(text, result, 80), 80, exceptions)


def _packed(text: Text, value: str, bits: int, exceptions: str) -> str:
    """A value and, from bit 80 on, its exceptions (i88)."""
    return _concatenated(text, 88, (value, bits, 0), (exceptions, 8, 80))


def _concatenated(text: Text, bits: int, *parts: tuple[str, int, int]) -> str:
    """One integer of `bits` bits of parts: a value, its bits, its place."""
    whole = "0"
    for value, size, at in parts:
        wide = text.value(f"zext i{size} {value} to i{bits}")
        whole = text.value(f"or i{bits} {whole}, {text.value(f'shl i{bits} {wide}, {at}') if at else wide}")
    return whole


def _by_template(text: Text, op: Value, arguments: Sequence[str], known: str) -> str:
    """A helper that is one instruction of `_TEMPLATES`: what it returns is told where it is defined."""
    name = op.attr.name
    results = 2 if name in _PUSHING else 1
    sources = sum(arg.bits == _WIDE for arg in op.args)
    control = arguments[sources] if name in _ROUNDED else ""
    outputs = [_slot(text, "result"), _slot(text, "second")][:results]
    inputs = [_store(text, "xy"[n], arguments[n], _WIDE) for n in range(sources)]
    status, exceptions = _operate(text, _TEMPLATES[name], [*outputs, *inputs], results, control, known)
    value = _load(text, outputs[0], _WIDE)
    parts = [(value, _WIDE, 0), (exceptions, 8, _WIDE)]
    if name in _REMAINDERS:
        exponent = text.value(f"and i80 {value}, {0x7FFF << 64}")
        parts.append((text.value(f"and i16 {status}, {_FXAM_CODES}"), 16, 88))
        parts.append((text.value(f"icmp eq i80 {exponent}, {0x7FFF << 64}"), 1, 104))  # a NaN: C0 and C3 are kept
    elif name.endswith(_FUNCTION):
        parts.append((text.value(f"and i16 {status}, {_C2}"), 16, 88))
        parts += [(_load(text, slot, _WIDE), _WIDE, 104) for slot in outputs[1:]]
    return value if op.bits == _WIDE else _concatenated(text, op.bits, *parts)


def _tag_word(text: Text, arguments: Sequence[str]) -> str:
    """The full tag word (i16) of `fvalid` and the eight registers, on any host."""
    word = "0"
    for number, register in enumerate(arguments[1:]):
        place = _store(text, "x", register, _WIDE)
        significand = text.fresh(f"load i64, ptr {place}")
        high = text.fresh(f"load i16, ptr {text.value(f'getelementptr i8, ptr {place}, i64 8')}")
        exponent = text.value(f"and i16 {high}, {_EXPONENT}")
        zero = text.value(f"icmp eq i64 {significand}, 0")
        least = text.value(f"icmp eq i16 {exponent}, 0")
        ordinary = text.value(f"icmp ne i16 {exponent}, {_EXPONENT}")
        normal = text.value(f"and i1 {ordinary}, {text.value(f'icmp slt i64 {significand}, 0')}")
        small = text.value(f"select i1 {zero}, i16 {_ZERO}, i16 {_SPECIAL}")
        large = text.value(f"select i1 {normal}, i16 0, i16 {_SPECIAL}")
        tag = text.value(f"select i1 {least}, i16 {small}, i16 {large}")
        valid = text.value(f"and i8 {arguments[0]}, {1 << number}")
        tag = text.value(f"select i1 {text.value(f'icmp eq i8 {valid}, 0')}, i16 {_EMPTY}, i16 {tag}")
        word = text.value(f"or i16 {word}, {text.value(f'shl i16 {tag}, {2 * number}')}")
    return word


def enter(text: Text) -> str:
    """Make the host's x87 ready for operations; what `leave` needs in the same function."""
    if not HAS_X87:
        return ""
    kept = _slot(text, "kept")
    status = _asm(text, "fnstcw @0; fnstsw %ax", [kept], 1, status=True)
    text.line(f"store i16 {text.fresh(f'and i16 {status}, {_EXCEPTIONS}')}, ptr {_held(text)}")
    control = text.fresh(f"load i16, ptr {kept}")
    usual = text.fresh(f"icmp eq i16 {control}, {HOST_CONTROL}")
    _restore(text, usual)
    return usual


def leave(text: Text, usual: str) -> None:
    """Give the host its control word back, and none of the guest's exceptions, which it may have unmasked."""
    if HAS_X87:
        change, done = text.new_label(), text.new_label()
        text.branch(usual, done, change, LIKELY)
        text.label(change)
        _asm(text, "fnclex; fldcw @0", [_slot(text, "kept")])
        text.line(f"br label %{done}")
        text.label(done)
