"""`open_*` blocks: leaving them in every way, talking to what runs in them, pipelines, several at once."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from pathlib import Path
from signal import SIGTERM

import anyio
import pytest

from aiopyvm import PIPE, VM, AiopyvmError, Limits, Process, Reason, ReceiveEnd, Runtime, pipe
from aiopyvm.runtime.runtime import IMPLICIT, current_scheduler
from tests.conftest import GuestPaths

pytestmark = pytest.mark.both_loops


def idle() -> bool:
    """Nothing runs and nothing leads."""
    scheduler = current_scheduler()
    return not scheduler.runs and not IMPLICIT.processes() and scheduler.driver.leader is None


def out(process: Process) -> ReceiveEnd:
    """Its standard output, which is a pipe here."""
    assert process.stdout is not None
    return process.stdout


async def test_leaving_normally_closes_the_streams_and_waits(guest: GuestPaths) -> None:
    async with VM().open_elf(guest("cat"), stdin=PIPE) as process:
        assert process.stdin is not None
        await process.stdin.send(b"hello\n")
        assert await out(process).receive() == b"hello\n"
        assert process.returncode is None
        with pytest.raises(RuntimeError, match="has not ended"):
            _ = process.result
    assert process.returncode == 0
    assert process.result.stdout == b"hello\n"
    with pytest.raises(anyio.ClosedResourceError):
        await process.stdin.send(b"x")
    assert idle()


async def test_an_exception_of_the_body_comes_out_bare(guest: GuestPaths) -> None:
    with pytest.raises(KeyError):
        async with VM().open_elf(guest("spin")) as process:
            await out(process).receive_until(b"\n")
            raise KeyError("mine")
    assert process.result.reason is Reason.CANCELLED
    assert process.result.stdout == b"spinning\n"
    assert idle()


async def test_cancelling_kills_at_once(guest: GuestPaths) -> None:
    with anyio.CancelScope() as scope:
        async with VM().open_elf(guest("spin"), strace=lambda line: scope.cancel()) as process:
            await process.wait()
    assert scope.cancelled_caught
    assert (process.returncode, process.result.reason) == (-9, Reason.CANCELLED)
    assert process.result.stdout == b"spinning\n"
    assert idle()


async def test_an_exception_of_a_stream_cancels_the_body_and_comes_out_bare(guest: GuestPaths) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"a\n"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        async with VM().open_elf(guest("cat"), stdin=broken()) as process:
            await anyio.sleep_forever()
    assert process.result.reason is Reason.CANCELLED
    assert idle()


async def test_the_generator_of_a_cancelled_block_is_closed_in_its_task(guest: GuestPaths) -> None:
    tasks = []

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                tasks.append(anyio.get_current_task().id)
                yield b"line\n"
                await anyio.sleep(0.001)
        finally:
            tasks.append(anyio.get_current_task().id)

    with anyio.CancelScope() as scope:
        async with VM().open_elf(guest("cat"), stdin=endless()) as process:
            async for _ in out(process):
                if len(tasks) > 2:
                    scope.cancel()
    assert len(tasks) > 3
    assert len(set(tasks)) == 1


async def test_open_is_no_awaitable(guest: GuestPaths) -> None:
    with pytest.raises(TypeError, match="async with"):
        await VM().open_elf(guest("hello"))


async def test_a_program_that_cannot_start_leaves_nothing(guest: GuestPaths) -> None:
    send, receive = pipe()
    with pytest.raises(AiopyvmError):
        async with VM().open_elf(b"no program", stdin=receive):
            raise AssertionError("unreachable")
    with pytest.raises(anyio.BrokenResourceError):
        await send.send(b"x")
    assert idle()


async def test_kill_terminate_and_signals(guest: GuestPaths) -> None:
    async with VM().open_elf(guest("spin")) as process:
        process.kill()
        assert await process.wait() == -9
        process.kill()
    assert process.result.reason is Reason.KILLED
    async with VM().open_elf(guest("cat"), stdin=PIPE) as process:
        process.terminate()
        assert await process.wait() == -SIGTERM
        process.send_signal(SIGTERM)
    assert process.result.reason is Reason.SIGNALED
    with pytest.raises(ValueError, match="signal"):
        process.send_signal(0)


async def test_ask(guest: GuestPaths) -> None:
    async with VM().open_elf(guest("calculator"), stdin=PIPE) as process:
        assert await process.ask() == b"> "
        assert await process.ask(b"6 * 7\n") == b"42\n> "
        assert await process.ask(b"1 + 1\n2 + 2\n") == b"2\n> 4\n> "
        assert await process.ask(b"quit\n") == b"bye\n"
        assert await process.wait() == 0
        assert await process.ask(b"more\n") == b""


async def test_ask_with_more_than_the_pipes_hold(guest: GuestPaths) -> None:
    async with VM().open_elf(guest("cat"), stdin=PIPE) as process:
        data = bytes(range(256)) * 2000
        assert await process.ask(data) == data
    async with VM().open_elf(guest("cat")) as process:
        with pytest.raises(ValueError, match="PIPE"):
            await process.ask(b"x")


async def test_output_that_nobody_reads_holds_the_guest_back(guest: GuestPaths) -> None:
    async with VM().open_elf(guest("flood")) as process:
        await anyio.sleep(0.05)
        executed = process.registers, current_scheduler()
        assert executed
        written = len(await out(process).receive(1 << 20))
        assert written <= 65536
    assert process.returncode == -13


async def test_lines_and_receiving(guest: GuestPaths) -> None:
    async with VM().open_elf(guest("seq"), "6") as process:
        stdout = out(process)
        assert await stdout.receive_until(b"\n") == b"1"
        assert await stdout.receive_exactly(3) == b"2\n3"
        assert await stdout.receive(2) == b"\n4"
        assert [line async for line in stdout.lines()] == [b"", b"5", b"6"]
        with pytest.raises(anyio.EndOfStream):
            await stdout.receive()
        with pytest.raises(anyio.IncompleteRead):
            await stdout.receive_exactly(1)
        with pytest.raises(ValueError, match="max_bytes"):
            await stdout.receive(0)


async def test_one_guests_output_is_anothers_input(guest: GuestPaths) -> None:
    async with (
        VM().open_elf(guest("seq"), "20") as a,
        VM().open_elf(guest("sort"), "-rn", stdin=a.stdout) as b,
    ):
        lines = [line async for line in out(b).lines("utf-8")]
        with pytest.raises(anyio.ClosedResourceError):
            await out(a).receive()
    assert lines == [str(n) for n in range(20, 0, -1)]
    assert (a.returncode, b.returncode) == (0, 0)


async def test_a_received_part_goes_along_when_an_end_moves(guest: GuestPaths) -> None:
    async with VM().open_elf(guest("seq"), "5") as a:
        assert await out(a).receive_until(b"\n") == b"1"
        result = await VM().run_elf(guest("cat"), stdin=a.stdout)
    assert result.stdout == b"2\n3\n4\n5\n"


async def test_pipeline(guest: GuestPaths) -> None:
    stages: list[list[str | Path]] = [[guest("seq"), "1000"], [guest("sort"), "-rn"], [guest("head"), "-3"]]
    async with VM().pipeline(*stages) as pipeline:
        lines = [line async for line in out(pipeline).lines("utf-8")]
    assert lines == ["1000", "999", "998"]
    assert len(pipeline.results) == 3
    assert pipeline.returncode == 0
    assert [process.result for process in pipeline.processes] == pipeline.results
    assert idle()


async def test_a_pipeline_from_python_to_python(guest: GuestPaths) -> None:
    async def feed() -> AsyncIterator[bytes]:
        for i in range(300):
            yield b"%d\n" % (i * 7919 % 1000)

    vm = VM(root={"bin": {name: guest(name).read_bytes() for name in ("grep", "sort", "head")}}, env={"PATH": "/bin"})
    async with vm.pipeline(["grep", "7"], ["sort", "-rn"], ["head", "-3"], stdin=feed()) as pipeline:
        lines = [line async for line in out(pipeline).lines("utf-8")]
    numbers = sorted((i * 7919 % 1000 for i in range(300) if "7" in str(i * 7919 % 1000)), reverse=True)
    assert lines == [str(n) for n in numbers[:3]]


async def test_a_pipelines_first_end_may_close_first(guest: GuestPaths) -> None:
    async with VM().pipeline([guest("seq"), "100000"], [guest("head"), "-1"]) as pipeline:
        assert await out(pipeline).receive() == b"1\n"
        assert await pipeline.wait() == -13
    assert [result.returncode for result in pipeline.results] == [-13, 0]


async def test_a_pipeline_with_a_stage_that_is_not_there(guest: GuestPaths) -> None:
    with pytest.raises(FileNotFoundError):
        async with VM().pipeline([guest("seq"), "10"], ["nothing"]):
            raise AssertionError("unreachable")
    with pytest.raises(AiopyvmError):
        async with VM().pipeline([guest("seq"), "10"], [Path(__file__)]):
            raise AssertionError("unreachable")
    assert idle()
    with pytest.raises(TypeError, match="stage"):
        VM().pipeline("ls")
    with pytest.raises(ValueError, match="stage"):
        VM().pipeline()


async def test_the_stages_of_a_pipeline_share_standard_error(guest: GuestPaths) -> None:
    stages = [guest("echo")], [guest("echo")], [guest("echo")]
    async with VM().pipeline(*stages) as pipeline:
        assert pipeline.stderr is not None
        said = b"".join([chunk async for chunk in pipeline.stderr])
    results = [result.stderr or b"" for result in pipeline.results]
    assert results == [b"end of input\n"] * 3
    assert said == b"end of input\n" * 3


async def test_a_stream_without_a_limit_is_not_kept_without_bound(guest: GuestPaths) -> None:
    async with VM(limits=Limits(output=None)).open_elf(guest("flood")) as process:
        size = 0
        while size < 3 << 20:
            size += len(await out(process).receive())
        process.kill()
    assert 1 << 20 <= len(process.result.stdout or b"") < 2 << 20


async def test_pipeline_with_stdin_pipe_and_ask(guest: GuestPaths) -> None:
    async with VM().pipeline([guest("cat")], [guest("cat")], stdin=PIPE) as pipeline:
        assert await pipeline.ask(b"through both\n") == b"through both\n"


async def test_killing_a_pipeline_and_signals(guest: GuestPaths) -> None:
    async with VM().pipeline([guest("spin")], [guest("cat")]) as pipeline:
        await out(pipeline).receive()
        pipeline.kill()
        assert await pipeline.wait() == -9
    assert {result.reason for result in pipeline.results} == {Reason.KILLED}


async def test_a_runtime_that_an_exception_leaves_kills_its_guests(guest: GuestPaths) -> None:
    async with anyio.create_task_group() as tasks:
        with pytest.raises(KeyError):
            async with Runtime() as runtime:
                process = await tasks.start(runtime.vm().run_elf, guest("spin"))
                raise KeyError
        assert process.result.reason is Reason.CANCELLED
        assert process.result.stdout in (b"", b"spinning\n")
        tasks.cancel_scope.cancel()


async def test_many_blocks_in_one_task(guest: GuestPaths) -> None:
    vm = VM()
    async with vm.open_elf(guest("cat"), stdin=PIPE) as a:
        async with vm.open_elf(guest("cat"), stdin=PIPE) as b:
            assert await b.ask(b"b") == b"b"
            assert await a.ask(b"a") == b"a"
        assert await a.ask(b"again") == b"again"
    assert idle()


async def test_a_forgotten_end_is_closed_when_it_is_collected(guest: GuestPaths) -> None:
    send, receive = pipe()
    await send.send(b"x")
    del send
    gc.collect()
    assert await receive.receive() == b"x"
    with pytest.raises(anyio.EndOfStream):
        await receive.receive()
    await receive.aclose()
