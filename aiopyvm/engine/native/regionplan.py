"""What a region is made from, as plain data: found in the process that runs guests, compiled in another one."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from aiopyvm.engine.native.layout import CHECKED

_PREFIXES: Final = frozenset(b"\x26\x2e\x36\x3e\x64\x65\x66\x67\xf0\xf2\xf3")
MOST_INSTRUCTIONS: Final = 400  # after which a region takes no more nodes

Stack = tuple[int, int]  # of the x87: TOP, and the registers in use (`fvalid`)
Table = tuple[tuple[int, int], ...]  # words of a jump table: number, target


@dataclass(frozen=True, slots=True)
class Request:
    """What a region is made from: `blocks` are runs of executed code, `tables` words of jump tables by address;
    `jumps` the targets of jumps by a register, by the jump's address;
    `stack` is the x87 stack it is entered with, where it may have x87 instructions; `allowed` are the features of the
    processor that it is for (None: all that there are).
    """

    root: int
    blocks: tuple[tuple[int, bytes], ...]
    tables: tuple[tuple[int, Table], ...] = ()
    limit: int = MOST_INSTRUCTIONS
    memory: str = CHECKED
    stack: Stack | None = None
    allowed: frozenset[str] | None = None
    jumps: tuple[tuple[int, Table], ...] = ()

    def to_text(self) -> str:
        """The request as JSON."""
        blocks = [[address, code.hex()] for address, code in self.blocks]
        rest = {"tables": self.tables, "limit": self.limit, "memory": self.memory, "stack": self.stack}
        allowed = None if self.allowed is None else sorted(self.allowed)
        return json.dumps({"root": self.root, "blocks": blocks, **rest, "allowed": allowed, "jumps": self.jumps})

    @classmethod
    def from_text(cls, text: str) -> Request:
        """The request that `to_text` wrote."""
        data = json.loads(text)
        blocks = tuple((address, bytes.fromhex(code)) for address, code in data["blocks"])
        tables, jumps = (
            tuple((address, tuple((n, word) for n, word in words)) for address, words in data[name])
            for name in ("tables", "jumps")
        )
        stack = (data["stack"][0], data["stack"][1]) if data["stack"] else None
        allowed = None if data["allowed"] is None else frozenset(data["allowed"])
        return cls(data["root"], blocks, tables, data["limit"], data["memory"], stack, allowed, jumps)


class Blocks:
    """Bytes by address, in runs."""

    def __init__(self, blocks: Iterable[tuple[int, bytes]]) -> None:
        self.starts: list[int] = []
        self.runs: list[bytes] = []
        for start, code in sorted(blocks):
            if self.starts and start <= (end := self.starts[-1] + len(self.runs[-1])):
                self.runs[-1] += code[end - start :]
            else:
                self.starts.append(start)
                self.runs.append(code)

    def read(self, address: int, length: int) -> bytes:
        """The bytes at `address`, as far as they are there in one run."""
        index = bisect_right(self.starts, address) - 1
        offset = address - self.starts[index]
        return self.runs[index][offset : offset + length]


def opcode_at(code: bytes) -> int:
    """Where an instruction's opcode is, behind its prefixes."""
    return next((at for at, byte in enumerate(code) if byte not in _PREFIXES), 0)


def is_x87(code: bytes) -> bool:
    """Whether an instruction's opcode is one of D8 to DF."""
    return bool(code) and 0xD8 <= code[opcode_at(code)] <= 0xDF


__all__ = ["MOST_INSTRUCTIONS", "Blocks", "Request", "Stack", "Table", "is_x87", "opcode_at"]
