"""Restartable sequences (rseq(2); kernel/rseq.c of the Linux source).

A thread names an area (struct rseq) that shows on which processor it runs, always 0 here, and in which it says what
sequence it is about to execute (struct rseq_cs). Where others of the machine may run before the sequence is over, or a
signal is delivered, the thread goes on at the sequence's abort handler.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from aiopyvm.abi.signal import SI_KERNEL, SIGSEGV, SigInfo
from aiopyvm.kernel import send
from aiopyvm.mem.faults import MemoryFault
from aiopyvm.mem.layout import TASK_SIZE

if TYPE_CHECKING:
    from aiopyvm.kernel.thread import Thread

SIZE: Final = 32  # of struct rseq, and its alignment
_IDS: Final = struct.Struct("<II")  # cpu_id_start, cpu_id
_POINTER_AT: Final = 8
_NODE_AT: Final = 20  # node_id, mm_cid
_SEQUENCE: Final = struct.Struct("<IIQQQ")  # version, flags, start_ip, post_commit_offset, abort_ip
_UNINITIALIZED: Final = 0xFFFFFFFF


class Area(NamedTuple):
    """What a thread has registered."""

    address: int
    length: int
    signature: int


def show(t: Thread, address: int, registered: bool) -> None:
    """Show the processor in an area, or that nobody does any more. Raises MemoryFault."""
    t.memory.probe(address, SIZE, True)
    t.memory.write(address, _IDS.pack(0, 0 if registered else _UNINITIALIZED))
    t.memory.write(address + _NODE_AT, bytes(8))


def interrupted(t: Thread) -> None:
    """Something comes between what `t` executes: abort its sequence, if it is in one; SIGSEGV for one that is none."""
    assert t.rseq is not None
    pointer_at = t.rseq.address + _POINTER_AT
    try:
        pointer = int.from_bytes(t.memory.read(pointer_at, 8), "little")
        if pointer:
            abort = _abort_of(t, pointer, t.rseq.signature)
            t.memory.write(pointer_at, bytes(8))
            if abort is not None:
                t.core.cpu.eip = abort
    except (MemoryFault, ValueError):
        send.force_signal(t, SigInfo(SIGSEGV, SI_KERNEL))


def _abort_of(t: Thread, pointer: int, signature: int) -> int | None:
    """Where to go from inside of the sequence at `pointer`; None: `t` is not in it. Raises ValueError for what is no
    sequence, and MemoryFault."""
    if pointer >= TASK_SIZE:
        raise ValueError("not a program's address")
    version, _, start, length, abort = _SEQUENCE.unpack(t.memory.read(pointer, _SEQUENCE.size))
    inside = 0 <= abort - start < length
    if version or start >= TASK_SIZE or start + length >= TASK_SIZE or abort >= TASK_SIZE or inside:
        raise ValueError("not a sequence")
    if t.memory.load(abort - 4 & 0xFFFFFFFF, 4) != signature:
        raise ValueError("not an abort handler")
    return int(abort) if 0 <= t.core.cpu.eip - start < length else None
