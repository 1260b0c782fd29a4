"""The assembler: Intel syntax, every row of the instruction table, labels, `db dw dd dq`.

Statements end at `;` or a newline, `#` begins a comment. The shortest encoding is taken; it grows, never shrinks,
from pass to pass until no label moves, so that the passes end. A memory operand's size is taken from the other
operands, or must be written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

from aiopyvm.errors import AssemblyError
from aiopyvm.isa.assemble_encode import Prefixes, RangeProblem, encode
from aiopyvm.isa.assemble_expression import Reader
from aiopyvm.isa.assemble_lexer import Statement, SyntaxProblem, statements, string_bytes
from aiopyvm.isa.assemble_operands import MemoryText, OperandText, RegisterText, ValueText, read_operand
from aiopyvm.isa.decode import DecodeFault, Decoder, NeedMore, decoder
from aiopyvm.isa.notation import Pattern
from aiopyvm.isa.state import SEGMENTS
from aiopyvm.isa.syntax import REGISTERS, REP_NAMES, SIZE_NAMES, SIZE_WORDS, Ambiguity

_DATA: Final = {"db": 1, "dw": 2, "dd": 4, "dq": 8}
_ST1_IMPLIED: Final = {"fxch", "fcom", "fcomp", "fucom", "fucomp"}
_ST1_ST0_IMPLIED: Final = {"faddp", "fmulp", "fsubp", "fsubrp", "fdivp", "fdivrp"}
_PATIENT_PASSES: Final = 32  # after so many, what still grows takes its longest form
_MOST_PASSES: Final = 256


def assemble(text: str, address: int = 0) -> bytes:
    """Return the machine code of `text` for `address` (0..2**32-1), 32-bit code.

    Raises AssemblyError, which names the line and the statement, where the text is wrong; TypeError, ValueError for
    arguments that are none.
    """
    if not isinstance(text, str):
        raise TypeError(f"assembly is str, not {type(text).__name__}")
    if not 0 <= address <= 0xFFFFFFFF:
        raise ValueError(f"an address has 32 bits, not {address:#x}")
    return _table_assembler().assemble(text, address)


@cache
def _table_assembler() -> Assembler:
    return Assembler(decoder())


@dataclass(frozen=True, slots=True)
class _Candidate:
    code: bytes
    order: int
    pattern: Pattern


class Assembler:
    """Assembles by the rows of a decoder. `assemble` of this module is the whole table's."""

    def __init__(self, table: Decoder) -> None:
        self._table = table
        self._ambiguity = Ambiguity(table.patterns)
        self._by_name: dict[str, list[tuple[int, Pattern]]] = {}
        for order, pattern in enumerate(table.patterns):
            alias = "alias" in pattern.row.attributes
            for name in (pattern.row.name, *pattern.row.aliases):
                self._by_name.setdefault(name, []).append((order + alias * len(table.patterns), pattern))

    def assemble(self, text: str, address: int = 0) -> bytes:
        """See the module's `assemble`."""
        try:
            program = list(statements(text))
        except SyntaxProblem as problem:
            raise AssemblyError(str(problem)) from None
        symbols: dict[str, int] = {}
        sizes = [0] * len(program)
        final = False
        for passes in range(_MOST_PASSES):
            labels: dict[str, int] = {}
            chunks = []
            here = address
            for n, statement in enumerate(program):
                longest = passes > _PATIENT_PASSES
                code = self._statement(statement, here, symbols, labels, sizes[n], longest=longest, final=final)
                sizes[n] = len(code)
                chunks.append(code)
                here += len(code)
            if final and labels == symbols:
                return b"".join(chunks)
            final = labels.keys() == symbols.keys()
            symbols = labels
        raise AssemblyError("the labels depend on one another in a way that does not settle")

    def _statement(
        self,
        statement: Statement,
        here: int,
        symbols: Mapping[str, int],
        labels: dict[str, int],
        least: int,
        *,
        longest: bool,
        final: bool,
    ) -> bytes:
        """Assemble one statement, its labels included, to at least `least` bytes where it refers to labels."""
        reader = Reader(statement.tokens, symbols, here, final=final)
        try:
            _take_labels(reader, labels, here)
            if reader.done:
                return b""
            if reader.peek() in _DATA:
                return _data(reader)
            choices = self._instruction(reader, here)
            if longest and least:
                return choices[-1]
            return next((code for code in choices if len(code) >= least), choices[-1])
        except SyntaxProblem as problem:
            if reader.unresolved:
                return bytes(least)
            raise AssemblyError(f"line {statement.line}: {problem}: {statement.text!r}") from None

    def _instruction(self, reader: Reader, here: int) -> list[bytes]:
        """The encodings of an instruction, shortest first."""
        prefixes = _prefixes(reader, self._by_name)
        name = reader.peek()
        if name not in self._by_name:
            raise SyntaxProblem(f"no such instruction: {name!r}" if name else "an instruction is missing")
        reader.at += 1
        operands: list[OperandText] = []
        while not reader.done:
            if operands:
                reader.expect(",")
            operands.append(read_operand(reader))
        candidates = self._candidates(name, tuple(operands), prefixes, here)
        if not candidates and (meant := _meant(name, operands)):
            candidates = self._candidates(name, meant, prefixes, here)
            operands = list(meant)
        if not candidates:
            raise SyntaxProblem("no form of the instruction takes these operands")
        _check_size(operands, candidates)
        candidates.sort(key=lambda candidate: (len(candidate.code), candidate.order))
        if not any(isinstance(o, (MemoryText, ValueText)) and o.symbolic for o in operands):
            del candidates[1:]
        return [candidate.code for candidate in candidates]

    def _candidates(
        self, name: str, operands: tuple[OperandText, ...], prefixes: Prefixes, here: int
    ) -> list[_Candidate]:
        found: list[_Candidate] = []
        problem: RangeProblem | None = None
        for order, pattern in self._by_name[name]:
            try:
                for code in encode(pattern, operands, prefixes, here, self._ambiguity):
                    if self._is(code, pattern):
                        found.append(_Candidate(code, order, pattern))
            except RangeProblem as error:
                problem = error
        if not found and problem:
            raise problem
        return _without_implied_16(found)

    def _is(self, code: bytes, pattern: Pattern) -> bool:
        """Whether the bytes are an instruction of the row: 90 is NOP, though XCHG EAX, EAX would encode so."""
        try:
            return self._table.decode(code).row is pattern.row
        except (DecodeFault, NeedMore):
            return False


def _take_labels(reader: Reader, labels: dict[str, int], here: int) -> None:
    while reader.peek(1) == ":" and reader.tokens[reader.at].kind == "word":
        token = reader.tokens[reader.at]
        if token.text in REGISTERS or token.text in SIZE_WORDS:
            raise SyntaxProblem(f"{token.raw!r} cannot be a label")
        if token.raw in labels:
            raise SyntaxProblem(f"label {token.raw!r} is there twice")
        labels[token.raw] = here
        reader.at += 2


def _data(reader: Reader) -> bytes:
    size = _DATA[reader.peek()]
    reader.at += 1
    out = bytearray()
    while True:
        if not reader.done and size == 1 and reader.tokens[reader.at].kind == "string" and reader.peek(1) in ("", ","):
            out += string_bytes(reader.tokens[reader.at])
            reader.at += 1
        else:
            value = reader.constant()
            if not -(1 << (8 * size - 1)) <= value < 1 << 8 * size:
                raise SyntaxProblem(f"{value:#x} does not fit {8 * size} bits")
            out += (value & ((1 << 8 * size) - 1)).to_bytes(size, "little")
        if reader.done:
            return bytes(out)
        reader.expect(",")


def _prefixes(reader: Reader, names: Mapping[str, object]) -> Prefixes:
    lock, rep, segment, addr16, data16 = False, 0, -1, False, False
    while (word := reader.peek()) and word not in names:
        if word == "lock":
            lock = True
        elif word in REP_NAMES:
            rep = REP_NAMES[word]
        elif word in SEGMENTS:
            segment = SEGMENTS.index(word)
        elif word == "addr16":
            addr16 = True
        elif word == "data16":
            data16 = True
        else:
            break
        reader.at += 1
    return Prefixes(lock, rep, segment, addr16, data16)


def _meant(name: str, operands: list[OperandText]) -> tuple[OperandText, ...]:
    """What is meant by operands that no row has: what the manual implies, or what assemblers accept; () for nothing."""
    top, next_ = RegisterText("st", 0, 80), RegisterText("st", 1, 80)
    match operands:
        case [] if name in _ST1_IMPLIED:
            return (next_,)
        case [] if name in _ST1_ST0_IMPLIED:
            return next_, top
        case [RegisterText() as register, MemoryText() as memory] if name == "test":
            return memory, register
        case [RegisterText(kind="sreg") as segment, RegisterText(kind="gpr", width=32) as register] if name == "mov":
            return segment, RegisterText("gpr", register.number, 16)
    return ()


def _without_implied_16(candidates: list[_Candidate]) -> list[_Candidate]:
    """Where nothing but the operand size tells rows apart, the code's own 32 bits are meant: `push [eax]`."""
    if {candidate.pattern.operand_size for candidate in candidates} == {16, 32}:
        return [candidate for candidate in candidates if candidate.pattern.operand_size == 32]
    return candidates


def _check_size(operands: list[OperandText], candidates: list[_Candidate]) -> None:
    for n, operand in enumerate(operands):
        if isinstance(operand, MemoryText) and operand.width < 0:
            widths = {candidate.pattern.fields[n].memory_width for candidate in candidates}
            if len(widths) > 1:
                words = ", ".join(f"{SIZE_NAMES[width]} ptr" for width in sorted(widths) if width)
                raise SyntaxProblem(f"the memory operand's size is not clear: {words}?")


__all__ = ["Assembler", "assemble"]
