"""`run_*`: results, reasons, limits, streams of every kind."""

from __future__ import annotations

import gc
import io
import os
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from aiopyvm import (
    DEVNULL,
    PIPE,
    STDOUT,
    VM,
    GuestFailedError,
    Limits,
    LoadError,
    Process,
    Reason,
    Runtime,
    assemble,
    pipe,
)
from tests.conftest import GuestPaths

pytestmark = pytest.mark.both_loops


async def test_hello(guest: GuestPaths) -> None:
    result = await VM().run_elf(guest("hello"))
    assert (result.stdout, result.stderr, result.returncode) == (b"Hello, world!\n", b"", 0)
    assert result.ok
    assert result.reason is Reason.EXITED
    assert result.text == "Hello, world!\n"
    assert result.instructions > 0
    assert result.peak_memory > 0
    assert result.args == [str(guest("hello"))]


async def test_a_program_may_be_its_bytes(guest: GuestPaths) -> None:
    result = await VM().run_elf(guest("hello").read_bytes(), argv0="greeter")
    assert result.stdout == b"Hello, world!\n"


async def test_a_missing_host_file_says_which_world(guest: GuestPaths) -> None:
    vm = VM(root={"bin": {"hello": guest("hello").read_bytes()}})
    with pytest.raises(FileNotFoundError, match="no such host file; the guest has one"):
        await vm.run_elf("/bin/hello")
    with pytest.raises(FileNotFoundError, match="no such guest file; the host has one"):
        await vm.run(str(guest("hello")))
    with pytest.raises(FileNotFoundError, match="in PATH; neither has the host"):
        await vm.run("no-such-program")
    assert (await vm.run("hello")).stdout == b"Hello, world!\n"
    assert (await vm.run(guest("hello"))).stdout == b"Hello, world!\n"


async def test_what_is_no_program(guest: GuestPaths, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_bytes(b"just text")
    with pytest.raises(LoadError):
        await VM().run_elf(text)
    with pytest.raises(TypeError, match="host path or bytes"):
        await VM().run_elf(3)  # type: ignore[arg-type]


async def test_check(guest: GuestPaths) -> None:
    with pytest.raises(GuestFailedError) as caught:
        await VM().run_elf(guest("crash"), "divide", check=True)
    assert caught.value.result.returncode == -8
    assert caught.value.result.fault is not None
    assert caught.value.result.fault.vector == 0
    assert (await VM().run_elf(guest("hello"), check=True)).ok


async def test_raw_bytes() -> None:
    result = await VM().run_bytes(assemble("mov eax, 6; imul eax, eax, 7"))
    assert result.reason is Reason.END_OF_CODE
    assert result.ok
    assert result.registers.eax == 42
    assert result.instructions == 2
    result = await VM().run_bytes(assemble("mov eax, 1; mov ebx, 3; int 0x80"), load_at=0x10000)
    assert (result.reason, result.returncode) == (Reason.EXITED, 3)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(instructions=100_000), Reason.INSTRUCTION_LIMIT),
        (Limits(wall_time=0.05), Reason.TIME_LIMIT),
        (Limits(guest_time=0.02), Reason.TIME_LIMIT),
    ],
)
async def test_a_limit_is_a_verdict(guest: GuestPaths, limits: Limits, reason: Reason) -> None:
    result = await VM(limits=limits).run_elf(guest("spin"))
    assert (result.reason, result.returncode, result.ok) == (reason, -9, False)
    assert result.stdout == b"spinning\n"
    assert len(result.limits_hit) == 1
    if limits.instructions:
        assert result.instructions == limits.instructions


async def test_the_output_limit_keeps_what_was_written(guest: GuestPaths) -> None:
    result = await VM(limits=Limits(output=1000)).run_elf(guest("flood"))
    assert result.reason is Reason.OUTPUT_LIMIT
    assert result.stdout is not None
    assert len(result.stdout) == 1000


async def test_limits_of_a_run_override_those_that_are_named(guest: GuestPaths) -> None:
    vm = VM(limits=Limits(instructions=50_000, output=5))
    result = await vm.run_elf(guest("spin"), limits=Limits(output=100))
    assert (result.reason, result.instructions) == (Reason.INSTRUCTION_LIMIT, 50_000)


async def test_a_runtime_bounds_the_sum(guest: GuestPaths) -> None:
    async with Runtime(limits=Limits(instructions=100_000)) as runtime:
        vm = runtime.vm()
        first = await vm.run_elf(guest("spin"), limits=Limits(instructions=60_000))
        second = await vm.run_elf(guest("spin"))
    assert first.instructions + second.instructions == 100_000
    assert second.reason is Reason.INSTRUCTION_LIMIT
    assert runtime.statistics()["instructions"] == 100_000
    del vm  # its files were left
    gc.collect()
    assert runtime.statistics()["memory"] == 0


async def test_an_enclosing_runtime_is_used_and_waits(guest: GuestPaths) -> None:
    async with Runtime() as runtime, anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: VM().run_elf(guest("hello")))
        await anyio.sleep(0)
        await anyio.sleep(0)
    assert runtime.processes() == []
    assert runtime.statistics()["started"] == 1


async def test_kill_all(guest: GuestPaths) -> None:
    async with Runtime() as runtime, VM().open_elf(guest("spin")) as process:
        assert runtime.processes() == [process]
        await process.stdout.receive_until(b"\n")
        runtime.kill_all()
        assert await process.wait() == -9
    assert process.result.reason is Reason.KILLED


async def chunks() -> AsyncIterator[bytes]:
    for i in range(3):
        yield b"%d\n" % i
        await anyio.sleep(0)


async def test_input_from_an_async_generator(guest: GuestPaths) -> None:
    assert (await VM().run_elf(guest("cat"), stdin=chunks())).stdout == b"0\n1\n2\n"


async def test_a_generator_that_is_not_read_to_its_end_is_closed(guest: GuestPaths) -> None:
    closed = []

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"line\n"
                await anyio.sleep(0)
        finally:
            closed.append(True)

    result = await VM().run_elf(guest("head"), "-2", stdin=endless())
    assert result.stdout == b"line\nline\n"
    assert closed == [True]


async def test_a_host_stream_is_read_no_further_than_asked(guest: GuestPaths) -> None:
    send, receive = anyio.create_memory_object_stream[bytes](10)
    for i in range(10):
        send.send_nowait(b"%d\n" % i)
    send.close()
    async with receive:
        result = await VM().run_elf(guest("hello"), stdin=receive)
        assert result.ok
        assert receive.statistics().current_buffer_used == 10


async def test_input_that_raises_ends_the_guest_and_passes_on_bare(guest: GuestPaths) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"a\n"
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        await VM().run_elf(guest("cat"), stdin=broken())


async def test_binary_files(guest: GuestPaths, tmp_path: Path) -> None:
    source, target, memory = tmp_path / "in", tmp_path / "out", io.BytesIO()
    source.write_bytes(b"from a file\n")
    with source.open("rb") as stdin, target.open("wb") as stdout:
        result = await VM().run_elf(guest("cat"), stdin=stdin, stdout=stdout)
    assert result.stdout is None
    assert target.read_bytes() == b"from a file\n"
    await VM().run_elf(guest("cat"), stdin=io.BytesIO(b"x" * 200_000), stdout=memory)
    assert memory.getvalue() == b"x" * 200_000


async def test_a_file_has_every_byte_although_the_run_is_cancelled(guest: GuestPaths) -> None:
    output = io.BytesIO()
    with anyio.move_on_after(0.1):
        await VM().run_elf(guest("spin"), stdout=output)
    assert output.getvalue() == b"spinning\n"


async def test_a_pipe_of_the_host(guest: GuestPaths) -> None:
    reader, writer = os.pipe()
    with open(writer, "wb", buffering=0) as stdout:
        result = await VM().run_elf(guest("hello"), stdout=stdout)
    assert result.ok
    with open(reader, "rb") as back:
        assert back.read() == b"Hello, world!\n"


async def test_a_broken_output_is_a_broken_pipe_for_the_guest(guest: GuestPaths) -> None:
    send, receive = anyio.create_memory_object_stream[bytes](0)
    receive.close()
    async with send:
        result = await VM().run_elf(guest("flood"), stdout=send)
    assert (result.reason, result.returncode) == (Reason.SIGNALED, -13)


async def test_devnull_and_stdout(guest: GuestPaths) -> None:
    result = await VM().run_elf(guest("cat"), stdin=DEVNULL, stdout=DEVNULL)
    assert (result.ok, result.stdout) == (True, None)
    merged = await VM().run_elf(guest("crash"), "divide", stderr=STDOUT)
    assert merged.stdout
    assert merged.stderr is None


@pytest.mark.parametrize(
    "options",
    [{"stdin": "text"}, {"stdout": "text"}, {"stdin": 3.5}, {"stdout": io.StringIO()}, {"stderr": object()}],
)
async def test_what_is_no_stream_of_bytes(guest: GuestPaths, options: dict[str, object]) -> None:
    with pytest.raises(TypeError):
        await VM().run_elf(guest("hello"), **options)  # type: ignore[arg-type]


async def test_stdout_for_stdin_is_refused(guest: GuestPaths) -> None:
    with pytest.raises(ValueError, match="stdin"):
        await VM().run_elf(guest("hello"), stdin=STDOUT)
    with pytest.raises(ValueError, match="stdout"):
        await VM().run_elf(guest("hello"), stdout=STDOUT)


async def test_a_pipe_between_python_and_a_guest(guest: GuestPaths) -> None:
    send, receive = pipe()
    result_of: list[bytes | None] = []

    async def run() -> None:
        result_of.append((await VM().run_elf(guest("cat"), stdin=receive)).stdout)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await send.send(b"through a pipe " * 10_000)
        await send.aclose()
    assert result_of == [b"through a pipe " * 10_000]
    with pytest.raises(anyio.ClosedResourceError):
        await receive.receive()


async def test_task_status_gives_the_process(guest: GuestPaths) -> None:
    async with anyio.create_task_group() as tasks:
        process: Process = await tasks.start(VM().run_elf, guest("fib"), "10")
        assert process.pid > 0
        assert await process.wait() == 0
    assert process.result.stdout == b"fib(10) = 55\n"


async def test_task_status_with_stdin(guest: GuestPaths) -> None:
    async with anyio.create_task_group() as tasks:
        process: Process = await tasks.start(lambda **options: VM().run_elf(guest("cat"), stdin=PIPE, **options))
        assert process.stdin is not None
        await process.stdin.send(b"one\n")
        await process.stdin.aclose()
    assert process.result.stdout == b"one\n"


async def test_environment_and_cwd(guest: GuestPaths) -> None:
    vm = VM(env={"A": "vm", "B": "vm"}, root={"work": {}}, cwd="/")
    result = await vm.run_elf(guest("args"), "x", env={"B": "run"}, cwd="work")
    assert b"A=vm" in (result.stdout or b"")
    assert b"B=run" in (result.stdout or b"")
    assert b"HOME=/" in (result.stdout or b"")
    assert os.environ.get("USER", "no such user") != "" or b"USER" not in (result.stdout or b"")
    with pytest.raises(OSError, match="in the guest"):
        await vm.run_elf(guest("args"), cwd="/nowhere")


async def test_concurrent_runs_share_files_and_nothing_else(guest: GuestPaths) -> None:
    vm = VM()
    results: list[bytes | None] = []

    async def run(n: int) -> None:
        results.append((await vm.run_elf(guest("fib"), str(n))).stdout)

    async with anyio.create_task_group() as tasks:
        for n in range(12):
            tasks.start_soon(run, n)
    assert len(set(results)) == 12
