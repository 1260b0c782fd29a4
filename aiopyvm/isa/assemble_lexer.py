"""The assembler's text as statements of tokens. A statement ends at a newline or a `;`; `#` begins a comment."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

_TOKEN: Final = re.compile(
    r"""(?P<space>[ \t\r\f\v]+ | \#[^\n]*)
      | (?P<end>[\n;])
      | (?P<string>"(?:[^"\\\n]|\\.)*" | '(?:[^'\\\n]|\\.)*')
      | (?P<number>0[xX][0-9a-fA-F_]+ | 0[bB][01_]+ | 0[oO][0-7_]+ | [0-9][0-9_]*)(?![\w.])
      | (?P<word>[sS][tT]\s*\(\s*[0-7]\s*\) | [A-Za-z_.@?$][\w.@?$]*)
      | (?P<mark><<|>>|[-+*/%&|^~()\[\],:])
    """,
    re.VERBOSE,
)
_ESCAPES: Final = {"n": 10, "t": 9, "r": 13, "0": 0, "\\": 92, '"': 34, "'": 39}


class SyntaxProblem(Exception):
    """What is wrong with a statement; the assembler adds where."""


@dataclass(frozen=True, slots=True)
class Token:
    """`kind` is string, number, word or mark; words are lower-case in `text`, as written in `raw`."""

    kind: str
    text: str
    raw: str


@dataclass(slots=True)
class Statement:
    """The tokens of one statement, the line (from 1) it stands on, and its text."""

    line: int
    tokens: list[Token] = field(default_factory=list)
    text: str = ""


def statements(text: str) -> Iterator[Statement]:
    """Yield the statements that are not empty. Raises SyntaxProblem, with the line, for a character that is none."""
    at, start, line = 0, 0, 1
    current = Statement(line)
    while at < len(text):
        match = _TOKEN.match(text, at)
        if not match:
            rest = text[at:].split(None, 1)[0]
            raise SyntaxProblem(f"line {line}: cannot read {rest[:40]!r}")
        kind, raw = str(match.lastgroup), match[0]
        if kind == "end":
            current.text = text[start:at].strip()
            if current.tokens:
                yield current
            line += raw == "\n"
            current, start = Statement(line), match.end()
        elif kind != "space":
            lowered = re.sub(r"\s", "", raw).lower() if kind == "word" else raw
            current.tokens.append(Token(kind, lowered, raw))
        at = match.end()
    current.text = text[start:].strip()
    if current.tokens:
        yield current


def string_bytes(token: Token) -> bytes:
    """The bytes of a quoted string: UTF-8, with the escapes of C's strings that have one letter, and \\xNN."""
    out = bytearray()
    body = token.raw[1:-1]
    at = 0
    while at < len(body):
        if body[at] != "\\":
            out += body[at].encode()
            at += 1
        elif match := re.compile(r"\\x([0-9a-fA-F]{2})").match(body, at):
            out.append(int(match[1], 16))
            at = match.end()
        elif body[at + 1] in _ESCAPES:
            out.append(_ESCAPES[body[at + 1]])
            at += 2
        else:
            raise SyntaxProblem(f"no such escape: {body[at : at + 2]}")
    return bytes(out)
