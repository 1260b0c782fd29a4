"""Operations of the host's x87 in a region, each one asm over values (`x86_fp80`) and memory operands.

LLVM keeps the values in the host's x87 registers and knows nothing of what is computed: nothing is folded, reordered or
computed under another control word. An asm also gives the status word where somebody asks for it (`status`), however
much later that is written: `finish` decides what stands in the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aiopyvm.engine.native.llvmtext import Text
from aiopyvm.ir.builder import Value

KIND: Final = "x86_fp80"
_REGISTERS: Final = " memory(inaccessiblemem: readwrite)"  # ordered among themselves, apart from all memory
_LOADS: Final = " memory(read, inaccessiblemem: readwrite)"


@dataclass(slots=True)
class _Late:
    """One asm. `template` has @r for the result and @0, @1.. for the operands; an operand is (constraint, argument)."""

    number: int
    template: str
    operands: Sequence[tuple[str, str]]
    result: bool
    effects: str
    wanted: bool = False

    @property
    def mark(self) -> str:
        """What stands in the text until it is known whether the status is wanted."""
        return f"  ; x87 {self.number}"

    def lines(self) -> list[str]:
        """The text."""
        outputs = ["={st}"] * self.result + ["={ax}"] * self.wanted
        template = self.template.replace("@r", "$0") + "; fnstsw %ax" * self.wanted
        for n in range(len(self.operands)):
            template = template.replace(f"@{n}", f"${n + len(outputs)}")
        constraints = ",".join([*outputs, *(constraint for constraint, _ in self.operands)])
        arguments = ", ".join(argument for _, argument in self.operands if argument)
        kinds = [KIND] * self.result + ["i16"] * self.wanted
        kind = f"{{{', '.join(kinds)}}}" if len(kinds) > 1 else kinds[0] if kinds else "void"
        call = f'call {kind} asm sideeffect "{template}", "{constraints}"({arguments}){self.effects}'
        result, status, both = (f"%{letter}{self.number}" for letter in "xst")
        if len(kinds) > 1:
            taken = [f"  {name} = extractvalue {kind} {both}, {n}" for n, name in enumerate((result, status))]
            return [f"  {both} = {call}", *taken]
        return [f"  {result} = {call}" if self.result else f"  {status} = {call}" if self.wanted else f"  {call}"]


class Asms:
    """Writes the asms of one function."""

    def __init__(self, text: Text) -> None:
        self._text = text
        self._late: list[_Late] = []
        self._by_operation: dict[Value, _Late] = {}

    def write(
        self, operation: Value, template: str, operands: Sequence[tuple[str, str]], *, result: bool = True, effects: str
    ) -> str:
        """Write the asm of an operation; the name of its result."""
        late = _Late(len(self._late), template, operands, result, effects)
        self._late.append(late)
        self._by_operation[operation] = late
        self._text.lines.append(late.mark)
        return f"%x{late.number}"

    def status(self, operation: Value) -> str:
        """The host's status word (i16) behind an operation."""
        late = self._by_operation[operation]
        late.wanted = True
        return f"%s{late.number}"

    def finish(self, lines: Sequence[str]) -> list[str]:
        """`lines` with the asms in their places."""
        marks = {late.mark: late for late in self._late}
        return [line for mark in lines for line in (marks[mark].lines() if mark in marks else (mark,))]

    # -- operands ------------------------------------------------------------------------------------------------------

    def of_registers(self, operation: Value, mnemonic: str, x: str, y: str, *, result: bool = True) -> str:
        """`mnemonic` y, x, where x is ST(0); its result takes x's place."""
        first = ("0" if result else "{st}", f"{KIND} {x}")
        own = "@r" if result else "@0"
        if x == y:
            template = f"{mnemonic} {own}, {own}" if result else f"{mnemonic} {own}"
            return self.write(operation, template, [first], result=result, effects=_REGISTERS)
        template = f"{mnemonic} @1, @r" if result else f"{mnemonic} @1"
        return self.write(operation, template, [first, ("f", f"{KIND} {y}")], result=result, effects=_REGISTERS)

    def of_one(self, operation: Value, mnemonic: str, x: str, *, result: bool = True) -> str:
        """`mnemonic`, which has ST(0) alone."""
        operand = ("0" if result else "{st}", f"{KIND} {x}")
        return self.write(operation, mnemonic, [operand], result=result, effects=_REGISTERS)

    def load(self, operation: Value, mnemonic: str, place: str) -> str:
        """`mnemonic` memory, which pushes its result."""
        return self.write(operation, f"{mnemonic} @0", [("*m", _memory(place))], effects=_LOADS)

    def with_memory(self, operation: Value, mnemonic: str, x: str, place: str, *, result: bool = True) -> str:
        """`mnemonic` memory, where x is ST(0)."""
        first = ("0" if result else "{st}", f"{KIND} {x}")
        return self.write(operation, f"{mnemonic} @1", [first, ("*m", _memory(place))], result=result, effects=_LOADS)

    def store(self, operation: Value, mnemonic: str, x: str, place: str, *, pops: bool) -> None:
        """`mnemonic` memory, which stores x, ST(0); `pops`: it is popped too."""
        clobbered = [("~{st}", "")] if pops else []
        operands = [("=*m", _memory(place)), ("{st}", f"{KIND} {x}"), *clobbered]
        self.write(operation, f"{mnemonic} @0", operands, result=False, effects="")


def _memory(place: str) -> str:
    return f"ptr elementtype([10 x i8]) {place}"


__all__ = ["KIND", "Asms"]
