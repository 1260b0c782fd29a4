"""The assembler's expressions: a constant plus, inside brackets, registers.

Label values come from a mapping, so that the same tokens can be read again in every pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aiopyvm.isa.assemble_lexer import SyntaxProblem, Token, string_bytes
from aiopyvm.isa.syntax import REGISTERS

_MAX_DEPTH: Final = 64
_MAX_SHIFT: Final = 64


@dataclass(frozen=True, slots=True)
class Linear:
    """A constant plus registers: (register number and width, scale; 0 where no scale was written)."""

    constant: int
    terms: tuple[tuple[int, int, int], ...] = ()

    def __add__(self, other: Linear) -> Linear:
        return Linear(self.constant + other.constant, self.terms + other.terms)


class Reader:
    """Reads tokens from left to right. `symbols` gives the values of labels; `here` is the value of `$`.

    A label that is not known yet reads as `here`, unless this is the `final` pass; `unresolved` tells that there was
    one.
    """

    def __init__(self, tokens: list[Token], symbols: Mapping[str, int], here: int, *, final: bool) -> None:
        self.tokens = tokens
        self.at = 0
        self.symbols = symbols
        self.here = here
        self.final = final
        self.used_symbol = False
        self.unresolved = False
        self._depth = 0

    def peek(self, offset: int = 0) -> str:
        """The next token's text, lower-case for words; "" at the end. Strings are never a mark or a word."""
        at = self.at + offset
        return self.tokens[at].text if at < len(self.tokens) else ""

    def take(self, text: str) -> bool:
        """Take the next token if it is `text`."""
        if self.peek() == text:
            self.at += 1
            return True
        return False

    def expect(self, text: str) -> None:
        """Take the next token, which must be `text`."""
        if not self.take(text):
            raise SyntaxProblem(f"expected {text!r}, not {self.peek() or 'the end'!r}")

    @property
    def done(self) -> bool:
        """Whether all tokens are read."""
        return self.at >= len(self.tokens)

    def constant(self) -> int:
        """Read an expression without registers."""
        value = self.expression()
        if value.terms:
            raise SyntaxProblem("a register where a number belongs")
        return value.constant

    def expression(self, level: int = 0) -> Linear:
        """Read an expression; `level` counts the binary operators that bind less."""
        if level == len(_OPERATORS):
            return self._unary()
        left = self.expression(level + 1)
        while self.peek() in _OPERATORS[level] and self.tokens[self.at].kind == "mark":
            operator = self.tokens[self.at].text
            self.at += 1
            left = _apply(operator, left, self.expression(level + 1))
        return left

    def _unary(self) -> Linear:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise SyntaxProblem("expression too deep")
        if self.take("-"):
            value = _apply("*", Linear(-1), self._unary())
        elif self.take("+"):
            value = self._unary()
        elif self.take("~"):
            value = _apply("^", Linear(-1), self._unary())
        elif self.take("("):
            value = self.expression()
            self.expect(")")
        else:
            value = self._atom()
        self._depth -= 1
        return value

    def _atom(self) -> Linear:
        if self.done:
            raise SyntaxProblem("an operand is missing")
        token = self.tokens[self.at]
        self.at += 1
        match token.kind:
            case "number":
                return Linear(_number(token.text))
            case "string":
                data = string_bytes(token)
                if not 1 <= len(data) <= 8:
                    raise SyntaxProblem(f"{token.raw} is no number")
                return Linear(int.from_bytes(data, "little"))
            case "word" if token.text in REGISTERS:
                kind, number, width = REGISTERS[token.text]
                if (kind != "gpr" or width == 8) and kind not in ("xmm", "ymm"):
                    raise SyntaxProblem(f"{token.raw} in an expression")
                return Linear(0, ((number, width, 0),))
            case "word":
                return Linear(self._symbol(token))
        raise SyntaxProblem(f"unexpected {token.raw!r}")

    def _symbol(self, token: Token) -> int:
        self.used_symbol = True
        if token.text == "$":
            return self.here
        if token.raw in self.symbols:
            return self.symbols[token.raw]
        if self.final:
            raise SyntaxProblem(f"no such label: {token.raw!r}")
        self.unresolved = True
        return self.here


_OPERATORS: Final = (("|",), ("^",), ("&",), ("<<", ">>"), ("+", "-"), ("*", "/", "%"))


def _number(text: str) -> int:
    try:
        return int(text, 0) if text.strip("0_") else 0
    except ValueError:
        raise SyntaxProblem(f"{text} is no number") from None


def _apply(operator: str, a: Linear, b: Linear) -> Linear:
    if operator == "+":
        return a + b
    if operator == "-" and not b.terms:
        return Linear(a.constant - b.constant, a.terms)
    if operator == "*" and len(a.terms) + len(b.terms) == 1:
        return _scale(a, b) if a.terms else _scale(b, a)
    if a.terms or b.terms:
        raise SyntaxProblem(f"a register beside {operator!r}")
    x, y = a.constant, b.constant
    if operator in ("/", "%") and y == 0:
        raise SyntaxProblem("division by zero")
    if operator in ("<<", ">>") and not 0 <= y <= _MAX_SHIFT:
        raise SyntaxProblem(f"shift by {y}")
    return Linear(_wide(_BINARY[operator](x, y)))


def _scale(register: Linear, factor: Linear) -> Linear:
    (number, width, scale), constant = register.terms[0], register.constant
    if factor.constant not in (1, 2, 4, 8) or constant or scale:
        raise SyntaxProblem(f"a register times {factor.constant}")
    return Linear(0, ((number, width, factor.constant),))


def _wide(value: int) -> int:
    if not -(1 << 64) < value < 1 << 64:
        raise SyntaxProblem("number too large")
    return value


_BINARY: Final = {
    "-": lambda x, y: x - y,
    "*": lambda x, y: x * y,
    "/": lambda x, y: x // y,
    "%": lambda x, y: x % y,
    "<<": lambda x, y: x << y,
    ">>": lambda x, y: x >> y,
    "&": lambda x, y: x & y,
    "|": lambda x, y: x | y,
    "^": lambda x, y: x ^ y,
}
