"""The system-call table and the dispatcher: decoding, errors, unknown numbers, strace text, bugs of ours."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import pytest

from aiopyvm.abi import errno
from aiopyvm.abi.numbers import NAMES
from aiopyvm.engine.protocol import ExitReason
from aiopyvm.errors import InternalError
from aiopyvm.kernel import trap
from aiopyvm.kernel.process import EndReason, Life
from aiopyvm.kernel.thread import RunState, Thread
from aiopyvm.kernel.wait import Wait
from aiopyvm.syscalls import strace
from aiopyvm.syscalls.index import NUMBERS
from aiopyvm.syscalls.spec import I64, TABLE, U64, CStr, Fd, Flags, OptCStr, Ptr, Syscall, syscall
from aiopyvm.syscalls.table import FAMILIES, numbers
from tests.kernel.machine import SCRATCH, SCRATCH_SIZE, Machine

SPARE = 1000  # a number that Linux does not have


@contextmanager
def row(handler: object, number: int = SPARE) -> Iterator[None]:
    """A call that exists for the length of a block."""
    syscall(number, "spare", man="spare(2)")(handler)  # type: ignore[type-var]
    try:
        yield
    finally:
        del TABLE[number]


def test_every_row_has_linux_name_and_number_and_compiles() -> None:
    for number, entry in TABLE.items():
        assert NAMES[number] == entry.name
        assert sum(kind.slots for kind in entry.kinds) <= 6
        assert entry.man.endswith(")")
        assert entry.handler.__doc__


def test_every_family_is_imported() -> None:
    assert {"process", "signals", "memory", "time", "identity", "limits", "futex", "threads", "random"} <= set(FAMILIES)
    assert {"files", "pipes", "stat", "polling", "ioctl"} <= set(FAMILIES)


def test_the_index_is_what_the_families_say() -> None:
    assert numbers() == NUMBERS, "run python -m aiopyvm.syscalls.table"


def test_exits_are_numbered_as_the_engine_numbers_them() -> None:
    assert (trap.SYSCALL, trap.FAULT) == (ExitReason.SYSCALL, ExitReason.FAULT)


def test_a_number_is_given_once() -> None:
    with pytest.raises(ValueError, match="getpid"):
        syscall(20, "getpid", man="getpid(2)")(lambda t: 0)


def test_an_unknown_number_is_enosys_and_counted() -> None:
    m = Machine()
    for number in (999, 999, 0xFFFFFFFF):
        assert m.call(m.thread, number) == -errno.ENOSYS
    assert m.kernel.unknown_syscalls == {999: 2, 0xFFFFFFFF: 1}


def test_calls_are_counted_and_cost_something() -> None:
    m = Machine()
    m.call(m.thread, "getpid")
    m.call(m.thread, "getpid")
    assert m.kernel.calls[20] == 2
    assert m.thread.system_ns == m.process.system_ns > 0


def test_wide_arguments_take_two_registers_low_word_first() -> None:
    seen: list[object] = []

    def spare(t: Thread, fd: Fd, a: I64, b: U64) -> int:
        seen.append((fd, a, b))
        return 0

    with row(spare):
        m = Machine()
        assert m.call(m.thread, SPARE, -1, 1, -1, 2, 0x80000000) == 0
    assert seen == [(-1, 1 - (1 << 32), 0x8000000000000002)]


def test_paths_are_read_at_once_and_bounded() -> None:
    def spare(t: Thread, path: CStr, other: OptCStr) -> int:
        return len(path) + (1000 if other is None else len(other))

    with row(spare):
        m = Machine()
        m.put(b"a" * 4095 + b"\0" + b"b" * 4096 + b"\0")
        assert m.call(m.thread, SPARE, SCRATCH, 0) == 5095
        assert m.call(m.thread, SPARE, SCRATCH, SCRATCH + 4090) == 4100
        assert m.call(m.thread, SPARE, SCRATCH + 4096, 0) == -errno.ENAMETOOLONG
        assert m.call(m.thread, SPARE, 0, 0) == -errno.EFAULT
        end = SCRATCH + SCRATCH_SIZE - 4
        m.put(b"abcd", end)
        assert m.call(m.thread, SPARE, end, 0) == -errno.EFAULT


def test_a_bug_in_a_handler_ends_that_process_alone_and_is_carried() -> None:
    def spare(t: Thread) -> int:
        raise ZeroDivisionError("oops")

    with row(spare):
        m = Machine()
        child = m.fork()
        assert m.call(child, SPARE) is None
        assert child.state is RunState.DEAD
        process = child.process
        assert process.end_reason is EndReason.INTERNAL_ERROR
        assert isinstance(process.failure, InternalError)
        assert isinstance(process.failure.__cause__, ZeroDivisionError)
        assert m.process.life is Life.ALIVE
        assert m.call(m.thread, "waitpid", -1, SCRATCH, 0) == process.pid
        assert m.words(SCRATCH, 1) == (9,)


def test_memory_refused_in_a_call_ends_the_run() -> None:
    m = Machine(memory_limit=64 << 20)
    at = m.call(m.thread, "mmap2", 0, 4 << 20, 3, 0x22, -1, 0)
    assert at is not None
    m.budget.limit = m.budget.used + (2 << 20)
    assert m.call(m.thread, "getrandom", at, 4 << 20, 0) is None
    for _ in range(100):
        m.advance(1)
        m.kernel.resume(m.thread)
    assert m.kernel.ended
    assert m.process.end_reason is EndReason.MEMORY_LIMIT


def test_waits_says_what_the_annotation_says() -> None:
    assert TABLE[3].waits
    assert not TABLE[20].waits


# --- strace -----------------------------------------------------------------------------------------------------------


def traced(m: Machine) -> list[str]:
    """The lines, whose results stand in column 40, with one space in front of that."""
    m.kernel.strace = lambda thread, line: m.lines.append(re.sub(r"\) +=", ") =", line))
    return m.lines


def test_strace_lines_are_straces() -> None:
    m = Machine()
    lines = traced(m)
    m.put(b"/no/such\0", SCRATCH)
    m.put(b'a "b"\n\1\0012\xff' + bytes(40), SCRATCH + 0x100)
    m.call(m.thread, "open", SCRATCH, 0o100002 | 0o1000, 0o644)
    m.call(m.thread, "write", 99, SCRATCH + 0x100, 7)
    m.call(m.thread, "write", 99, SCRATCH + 0x100, 40)
    m.call(m.thread, "write", 99, 4, 7)
    m.call(m.thread, "brk", 0)
    m.call(m.thread, "getpid")
    m.call(m.thread, "kill", 1, 0)
    m.call(m.thread, "kill", 77, 15)
    m.call(m.thread, "mmap2", 0, 4096, 3, 0x22, -1, 0)
    m.call(m.thread, 999, 1, 2)
    m.put(struct.pack("<Q", 0x4002), SCRATCH + 0x200)
    m.call(m.thread, "rt_sigprocmask", 0, SCRATCH + 0x200, SCRATCH + 0x208, 8)
    m.call(m.thread, "clock_gettime", 1, SCRATCH + 0x210)
    m.call(m.thread, "futex", SCRATCH, 129, 1, 0, 0, 0)
    expected = [
        'open("/no/such", O_RDWR|O_TRUNC|O_LARGEFILE) = -1 ENOENT (No such file or directory)',
        'write(99, "a \\"b\\"\\n\\1", 7) = -1 EBADF (Bad file descriptor)',
        'write(99, "a \\"b\\"\\n\\1\\0012\\377' + "\\0" * 22 + '"..., 40) = -1 EBADF (Bad file descriptor)',
        "write(99, 0x4, 7) = -1 EBADF (Bad file descriptor)",
        "getpid() = 1",
        "kill(1, 0) = 0",
        "kill(77, SIGTERM) = -1 ESRCH (No such process)",
        "rt_sigprocmask(SIG_BLOCK, [INT TERM], [], 8) = 0",
        "clock_gettime(CLOCK_MONOTONIC, {tv_sec=5, tv_nsec=0}) = 0",
        "futex(0x10000000, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0) = 0",
    ]
    for text in expected:
        assert text in lines
    assert any(text.startswith("brk(NULL) = 0x") for text in lines)
    start = "mmap2(NULL, 4096, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x"
    assert any(text.startswith(start) for text in lines)
    assert any(text.startswith("syscall_0x3e7(0x1, 0x2") for text in lines)


def test_strace_shows_a_waiting_call_once_when_it_ends() -> None:
    m = Machine()
    lines = traced(m)
    m.put(struct.pack("<ii", 1, 0))
    assert m.call(m.thread, "nanosleep", SCRATCH, 0) is None
    assert lines == []
    m.advance(10**9)
    assert m.result(m.thread) == 0
    assert lines == ["nanosleep({tv_sec=1, tv_nsec=0}, NULL) = 0"]


def test_strace_survives_arguments_that_cannot_be_read() -> None:
    m = Machine()
    lines = traced(m)
    m.call(m.thread, "nanosleep", 4, 8)
    m.call(m.thread, "open", 4, 0, 0)
    assert lines == [
        "nanosleep(0x4, 0x8) = -1 EFAULT (Bad address)",
        "open(0x4, 0x0, 0x0) = -1 EFAULT (Bad address)",
    ]


@pytest.mark.parametrize(
    ("value", "text"), [(0, "NONE"), (1, "A"), (3, "A|B"), (4, "0x4"), (7, "A|B|0x4"), (0x18, "WIDE")]
)
def test_flags_are_shown_by_name(value: int, text: str) -> None:
    assert strace.flags_text({1: "A", 2: "B", 0x18: "WIDE"}, value, "NONE") == text


def test_names_of_flags_may_be_given_either_way_round() -> None:
    assert Flags({1: "A"}).names == Flags({"A": 1}).names == {1: "A"}


def test_a_parameter_of_no_kind_is_an_error_of_the_table() -> None:
    def spare(t: Thread, path: str) -> int:
        return 0

    def many(t: Thread, a: I64, b: I64, c: I64, d: Ptr) -> int:
        return 0

    with pytest.raises(TypeError, match="no kind"):
        _ = Syscall(SPARE, "spare", "spare(2)", spare, False).kinds
    with pytest.raises(TypeError, match="registers"):
        Syscall(SPARE, "many", "many(2)", many, False).decode(Machine().thread, (0,) * 6)


_ = (Annotated, Wait)  # names that handlers' annotations in this file may use
