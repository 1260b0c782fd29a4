"""The instruction table: `@insn` and `@form` beside the function that is the instruction's meaning.

    @insn("adc", source="Intel SDM vol. 2A, ADC", reads=CF, writes=OSZAPC, lock=True)
    @form("14 ib", "al, imm8")
    @form("81 /2 id", "r/m32, imm32")          # ... one row per row of the manual
    def adc(b, dst, src):
        \"\"\"dst := dst + src + CF.\"\"\"

A row's encoding is the manual's "Opcode" column. Tokens: `NP 66 F2 F3` before the opcode are mandatory prefixes, `NFx`
forbids F2 and F3; `VEX.128.66.0F38.W0` and the like stand for escape bytes and mandatory prefix (`isa/vex.py`); hex
bytes in capitals, of which one behind the opcode is a value of ModRM; `+rb +rw +rd` (register in the low three bits),
`+i` (ST(i)); `/r` and `/0`../7`; `ib iw id` immediates; `cb cw cd cp` code offsets. Three tokens of ours, first in the
row, say what the manual leaves to prose: `o16 o32` (only with that operand size), `o*` (with either), `a16 a32` (only
with that address size). Without one, a row whose operands name a 32-bit register, memory form, immediate or offset
(r32, r/m32, eax, imm32, rel32..) has `o32`, else one with 16-bit ones (r16, r/m16, ax, rel16..; not imm16, not dx,
which is a port) has `o16`, else, and with the mandatory prefix 66, `o*`. Where several rows match, a mandatory prefix
counts first, then the fixed byte before the range (NOP is not XCHG EAX, EAX); no two may match with equal right.

A row's operands are the manual's "Instruction" column without the mnemonic: `r8 r16 r32 r32a r32b r/m8 r/m16 r/m32
r32/m16 imm8 imm16 imm32 rel8 rel16 rel32 ptr16:16 ptr16:32 m m8 m16 m32 m64 m80 m16:16 m16:32 m16&16 m32&32 moffs8
moffs16 moffs32 Sreg CR0-CR7 DR0-DR7 ST(0) ST(i) al ax eax cl dx .. es cs ss ds fs gs 1 3`, and `m32fp m64fp m80fp
m16int m32int m64int m80dec m14/28byte m94/108byte m2byte`. A memory form alone (m..) excludes registers, a register
alone excludes memory. `imm8` beside a wider first operand is sign-extended to that operand's width, alone under `o16`
or `o32` to that size, unless the row's `zero_extend` says otherwise. `static` names operands (by position) whose value
shapes the IR: the function may call `int()` on an immediate, and ask which base register a memory operand has. The
attribute "alias" marks a row that encodes what another row encodes better: it is decoded, and assembled only where no
other row fits. The attribute "MVR" is the manual's Op/En, where VEX.vvvv is the second of three registers and ModRM.reg
the last. "unaligned" marks a row whose accesses EFLAGS.AC does not look at.

`isa/notation.py` compiles rows; new operand names are entries of its tables.

`Row` objects are made, in order of definition, when a family's module is imported; `table()` imports all families.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

Semantics = Callable[..., None]


@dataclass(frozen=True, eq=False, slots=True)
class Row:
    """One row of the manual. `operands` are the manual's operand names; flag effects are masks of EFLAGS bits.

    `undefined` flags get a value, the same on every engine, but no meaning. `lock` allows the LOCK prefix (with a
    memory destination). `rep` is "" (a rep prefix has no meaning), "rep" or "repe" (both REPE and REPNE, as for
    CMPS). `restartable` excuses the row from the rule that nothing faults after an effect. `aliases` are further
    mnemonics; `static`, `zero_extend` and `attributes` are told above. `cpuid` names the features without which the
    row is no instruction, as /proc/cpuinfo calls them, sorted, a space between them ("": an i486 has it).
    """

    name: str
    encoding: str
    operands: tuple[str, ...]
    semantics: Semantics
    source: str
    reads: int = 0
    writes: int = 0
    undefined: int = 0
    static: tuple[int, ...] = ()
    zero_extend: bool = False
    lock: bool = False
    rep: str = ""
    restartable: bool = False
    aliases: tuple[str, ...] = ()
    attributes: frozenset[str] = field(default_factory=frozenset)
    cpuid: str = ""

    @property
    def vex(self) -> bool:
        """Whether it is encoded with VEX: a result in XMM clears the rest of YMM, and memory need not be aligned."""
        return self.encoding.startswith("VEX")

    def __str__(self) -> str:
        return f"{self.encoding}  {self.name} {', '.join(self.operands)}".rstrip()


ROWS: Final[list[Row]] = []


def form(
    encoding: str,
    operands: str = "",
    *,
    static: tuple[int, ...] = (),
    zero_extend: bool = False,
    lock: bool | None = None,
    undefined: int | None = None,
    attributes: str = "",
    cpuid: str | None = None,
) -> Callable[[Semantics], Semantics]:
    """Add one row of the manual to the function; rows are kept in the order in which they are written.

    `lock`, `undefined` and `cpuid` override what `insn` says for all rows.
    """

    def add(function: Semantics) -> Semantics:
        forms = function.__dict__.setdefault("forms", [])
        names = tuple(part.strip() for part in operands.split(",")) if operands else ()
        options: dict[str, Any] = {"static": static, "zero_extend": zero_extend}
        options["attributes"] = frozenset(attributes.split())
        if lock is not None:
            options["lock"] = lock
        if undefined is not None:
            options["undefined"] = undefined
        if cpuid is not None:
            options["cpuid"] = cpuid
        forms.insert(0, (encoding, names, options))
        return function

    return add


def forms(*rows: tuple[str, str], **options: Any) -> Callable[[Semantics], Semantics]:
    """Add several rows, each an encoding and its operands, in their order; `options` are those of `form`."""

    def add(function: Semantics) -> Semantics:
        for encoding, operands in reversed(rows):
            function = form(encoding, operands, **options)(function)
        return function

    return add


def insn(
    name: str,
    *,
    source: str,
    reads: int = 0,
    writes: int = 0,
    undefined: int = 0,
    lock: bool = False,
    rep: str = "",
    restartable: bool = False,
    aliases: tuple[str, ...] = (),
    cpuid: str = "",
) -> Callable[[Semantics], Semantics]:
    """Put the function's rows into the table under mnemonic `name`."""

    def register(function: Semantics) -> Semantics:
        common: dict[str, Any] = {
            "source": source, "reads": reads, "writes": writes, "undefined": undefined, "lock": lock, "rep": rep,
            "restartable": restartable, "aliases": aliases, "cpuid": cpuid,
        }  # fmt: skip
        for encoding, operands, options in function.__dict__.pop("forms"):
            ROWS.append(Row(name, encoding, operands, function, **{**common, **options}))
        return function

    return register


@cache
def table() -> tuple[Row, ...]:
    """Every row of the instruction table."""
    package = importlib.import_module("aiopyvm.isa.insns")
    for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda info: info.name):
        importlib.import_module(f"aiopyvm.isa.insns.{module.name}")
    return tuple(ROWS)
