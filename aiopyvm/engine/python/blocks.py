"""Blocks: straight runs of decoded instructions, as the cold tier executes them and as regions are made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiopyvm.ir.builder import Value
from aiopyvm.isa.insn import Insn
from aiopyvm.isa.state import MODE_REGISTERS, SEGMENTS

MAX_BLOCK: Final = 32  # instructions


@dataclass(slots=True, eq=False)
class Block:
    """Instructions from `start` to `end` (`end` is behind the last byte), one way in, ending where control may go
    elsewhere.

    `handlers` are bound to one address space, for one `mode` (MODE_* bits). A `special` block is one instruction that
    leaves the engine or that no region may contain; its handler is None where only the evaluator can run it.
    `successors` are the addresses known beforehand where control may go. `count`: how often the block was entered; at
    `warm_at` a region is made around it.
    """

    start: int
    end: int
    code: bytes
    insns: tuple[tuple[int, Insn], ...]
    handlers: tuple[Any, ...]
    successors: tuple[int, ...]
    special: bool
    mode: int = 0
    count: int = 0
    warm_at: int = 0


def is_special(ops: Sequence[Value]) -> bool:
    """Tell whether the operations leave the engine, run on the machine itself, or change what blocks are keyed by."""
    for op in ops:
        if op.op == "exit" or (op.op == "helper" and op.attr.machine):
            return True
        if op.op == "set" and (op.attr in MODE_REGISTERS or op.attr in SEGMENTS):
            return True
    return False


def ends_block(ops: Sequence[Value]) -> bool:
    """Tell whether control may go elsewhere than to the next instruction."""
    return any(op.op in ("jump", "exit") for op in ops)
