"""Arguments that are none: what is misspelt or of the wrong kind is told before anything starts."""

from __future__ import annotations

import copy
import os
import pickle
from typing import Any

import anyio
import pytest

from aiopyvm import (
    PIPE,
    STDOUT,
    VM,
    CodeHook,
    GuestFailedError,
    HostDir,
    Limits,
    MemoryHook,
    Runtime,
    SyscallHook,
    assemble,
    disassemble,
    pipe,
)
from tests.conftest import GuestPaths

VM_ARGUMENTS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"root": 5}, TypeError, "not int"),
    ({"root": {"a": "text"}}, TypeError, "/a is given as str"),
    ({"root": {"../x": b""}}, ValueError, "named"),
    ({"root": "/nonexistent"}, FileNotFoundError, "'/nonexistent'"),
    ({"mounts": [1]}, TypeError, "mapping"),
    ({"mounts": {"x": {}}}, ValueError, "absolute"),
    ({"env": ["A=1"]}, TypeError, "mapping"),
    ({"env": {"A": 1}}, TypeError, "variable A"),
    ({"cwd": 5}, TypeError, "cwd"),
    ({"limits": {"memory": 1}}, TypeError, "Limits"),
    ({"limits": 0}, TypeError, "Limits"),
    ({"engine": "x"}, ValueError, "engine"),
    ({"cpu": "486"}, ValueError, "cpu"),
    ({"quantum": True}, ValueError, "quantum"),
    ({"weight": float("inf")}, ValueError, "weight"),
    ({"weight": "x"}, ValueError, "weight"),
    ({"clock": "x"}, ValueError, "clock"),
    ({"seed": 1.5}, TypeError, "seed"),
    ({"name": 5}, TypeError, "name"),
    ({"runtime": 5}, TypeError, "Runtime"),
]
RUN_ARGUMENTS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"stdn": b""}, TypeError, "no option 'stdn'.* stdin"),
    ({"paused": True}, TypeError, "no option 'paused'"),
    ({"argv0": 5}, TypeError, "argv0"),
    ({"env": [1]}, TypeError, "env"),
    ({"cwd": "/nope"}, FileNotFoundError, "'/nope'"),
    ({"stdin": "text"}, TypeError, "encode"),
    ({"stdin": STDOUT}, ValueError, "stdin"),
    ({"stdout": True}, ValueError, "stdout"),
    ({"stdout": b"x"}, TypeError, "output"),
    ({"limits": 3}, TypeError, "Limits"),
    ({"tty": "yes"}, TypeError, "tty"),
    ({"name": 9}, TypeError, "name"),
    ({"strace": 5}, TypeError, "strace"),
    ({"trace": 5}, TypeError, "trace"),
    ({"hooks": 5}, TypeError, "hooks"),
    ({"hooks": [5]}, TypeError, "hook"),
    ({"hooks": [SyscallHook(print, "nosuchcall")]}, ValueError, "nosuchcall"),
    ({"check": "x"}, TypeError, "check"),
    ({"task_status": 5}, TypeError, "task_status"),
    ({"input": b"x"}, TypeError, "stdin takes bytes"),
    ({"timeout": 3}, TypeError, "wall_time"),
    ({"memory": 3}, TypeError, r"Limits\(memory="),
    ({"nonsense": 3}, TypeError, "it has argv0, env"),
]


@pytest.mark.anyio
@pytest.mark.parametrize(("options", "kind", "words"), VM_ARGUMENTS, ids=lambda value: str(value)[:40])
async def test_machines(guest: GuestPaths, options: dict[str, Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        await VM(**options).run_elf(guest("hello"))


@pytest.mark.anyio
@pytest.mark.parametrize(("options", "kind", "words"), RUN_ARGUMENTS, ids=lambda value: str(value)[:40])
async def test_runs(guest: GuestPaths, options: dict[str, Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        await VM().run_elf(guest("cat"), **options)


def test_blocks_refuse_when_they_are_made(guest: GuestPaths) -> None:
    options: dict[str, Any] = {"check": True}
    vm: Any = VM()
    for make in (vm.open_elf, vm.open_flat, vm.open_bytes, vm.open, vm.pipeline):
        with pytest.raises(TypeError, match="no option 'check'"):
            make(b"x", **options)


@pytest.mark.anyio
async def test_arguments_of_programs(guest: GuestPaths) -> None:
    for wrong in (5, ["5"]):
        with pytest.raises(TypeError, match=r"5.*(int|list)"):
            await VM().run_elf(guest("fib"), wrong)  # type: ignore[arg-type]


def test_a_block_of_the_event_loop_is_no_other(guest: GuestPaths) -> None:
    opening: Any = VM().open_elf(guest("hello"))
    with pytest.raises(TypeError, match="async with"), opening:
        pass


def test_runtimes() -> None:
    wrong: list[dict[str, Any]] = [{"engine": "x"}, {"workers": -1}, {"workers": True}, {"quantum": 0}, {"limits": 5}]
    for options in wrong:
        with pytest.raises((TypeError, ValueError)):
            Runtime(**options)


def test_limits_are_finite() -> None:
    with pytest.raises(ValueError, match="finite"):
        Limits(wall_time=float("inf"))
    with pytest.raises(ValueError, match="finite"):
        Limits(guest_time=float("inf"))


def test_hooks() -> None:
    wrong: list[Any] = [
        lambda: CodeHook("x", print),  # type: ignore[arg-type]
        lambda: CodeHook(5, 7),  # type: ignore[arg-type]
        lambda: CodeHook(5, print, 5),
        lambda: CodeHook(-1, print),
        lambda: MemoryHook(5, 1, print),
        lambda: MemoryHook(0, 5, print, "q"),  # type: ignore[arg-type]
        lambda: SyscallHook(5),  # type: ignore[arg-type]
        lambda: SyscallHook(print, 5),  # type: ignore[arg-type]
    ]
    for make in wrong:
        with pytest.raises((TypeError, ValueError)):
            make()


@pytest.mark.both_loops
async def test_an_answer_that_is_no_number() -> None:
    code = assemble("mov eax, 20; int 0x80")
    with pytest.raises(TypeError, match="'x'"):
        await VM().run_bytes(code, hooks=[SyscallHook(lambda event: "x")])


@pytest.mark.both_loops
async def test_signals(guest: GuestPaths) -> None:
    async with VM().open_elf(guest("cat"), stdin=PIPE) as process:
        for number in (0, 65, -1):
            with pytest.raises(ValueError, match="signal"):
                process.send_signal(number)
        for wrong in ("x", 1.5, None):
            with pytest.raises(TypeError, match="signal"):
                process.send_signal(wrong)  # type: ignore[arg-type]


@pytest.mark.both_loops
async def test_pipes() -> None:
    with pytest.raises(TypeError):
        pipe(5.5)  # type: ignore[arg-type]
    ends = pipe()
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="max_bytes"):
            await ends.receive.receive(wrong)
    with pytest.raises(ValueError, match="negative"):
        await ends.receive.receive_exactly(-1)
    with pytest.raises(ValueError, match="delimiter"):
        await ends.receive.receive_until(b"")
    with pytest.raises(TypeError):
        await ends.send.send("text")  # type: ignore[arg-type]
    with pytest.raises(LookupError):
        ends.receive.lines("no-such-encoding")
    await ends.send.aclose()
    await ends.receive.aclose()
    with pytest.raises(anyio.ClosedResourceError):
        await ends.receive.receive_exactly(0)


@pytest.mark.both_loops
async def test_paths() -> None:
    path = VM(root={"a": b""}).path("/a")
    with pytest.raises(TypeError):
        await path.write_text(b"x")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        await path.append_bytes("x")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        os.fspath(path)  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        HostDir(5)  # type: ignore[arg-type]


def test_assembly_and_code() -> None:
    for wrong in (5, b"nop"):
        with pytest.raises(TypeError):
            assemble(wrong)  # type: ignore[arg-type]
    for no_code in (5, "90"):
        with pytest.raises(TypeError):
            disassemble(no_code)  # type: ignore[arg-type]
    for address in (-1, 1 << 32):
        with pytest.raises(ValueError, match="32 bits"):
            assemble("nop", address)
        with pytest.raises(ValueError, match="32 bits"):
            disassemble(b"\x90", address)


@pytest.mark.anyio
async def test_results_and_errors_can_be_copied_and_pickled(guest: GuestPaths) -> None:
    with pytest.raises(GuestFailedError) as caught:
        await VM().run_elf(guest("crash"), "divide", check=True)
    for error in (copy.deepcopy(caught.value), pickle.loads(pickle.dumps(caught.value))):
        assert str(error) == str(caught.value)
        assert error.result.fault == caught.value.result.fault
        assert error.result.registers.as_dict() == caught.value.result.registers.as_dict()
