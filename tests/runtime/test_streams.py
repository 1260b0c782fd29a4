"""The caller's own streams: what is read ahead, written short, left open; and waiting for guests in odd places."""

from __future__ import annotations

import asyncio
import io
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from aiopyvm import PIPE, VM, Reason
from tests.conftest import GuestPaths


@pytest.mark.both_loops
async def test_a_file_that_has_read_ahead_of_its_descriptor(guest: GuestPaths) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"one\ntwo\n")
    with os.fdopen(reading, "rb") as file:
        assert file.readline() == b"one\n"
        with anyio.fail_after(10):
            async with VM().open_elf(guest("cat"), stdin=file) as process:
                assert process.stdout is not None
                assert await process.stdout.receive() == b"two\n"  # the pipe is open and empty
                os.write(writing, b"three\n")
                assert await process.stdout.receive() == b"three\n"
                os.close(writing)
                assert await process.wait() == 0


class Short(io.RawIOBase):
    """Takes three bytes at a time, and nothing every other time."""

    def __init__(self) -> None:
        self.data = b""
        self._tired = False

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: Any) -> int | None:
        """Take what it likes."""
        self._tired = not self._tired
        if not self._tired:
            return None
        self.data += bytes(data[:3])
        return min(3, len(data))


class Uncounting:
    """Has a `write` that says nothing about how much it took."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        """Take all."""
        self.data += data


@pytest.mark.both_loops
@pytest.mark.parametrize("kind", [Short, Uncounting])
async def test_writers_that_take_less_or_do_not_say(guest: GuestPaths, kind: type[Short | Uncounting]) -> None:
    file = kind()
    with anyio.fail_after(10):
        result = await VM().run_elf(guest("hello"), stdout=file)
    assert (file.data, result.stdout, result.ok) == (b"Hello, world!\n", None, True)


@pytest.mark.both_loops
async def test_an_output_stream_that_raises_ends_the_guest_and_passes_on(guest: GuestPaths) -> None:
    class Bad:
        def write(self, data: bytes) -> int:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await VM().run_elf(guest("spin"), stdout=Bad())
    with pytest.raises(ZeroDivisionError):
        async with VM().open_elf(guest("spin"), stdout=Bad()) as process:
            await anyio.sleep(10)
    assert process.result.reason is Reason.CANCELLED


@pytest.mark.both_loops
async def test_the_callers_streams_stay_open(guest: GuestPaths) -> None:
    with tempfile.TemporaryFile() as file:
        await VM().run_elf(guest("cat"), stdin=file, stdout=file)
        assert not file.closed
    send, receive = anyio.create_memory_object_stream[bytes](10)
    async with send, receive:
        await VM().run_elf(guest("hello"), stdout=send)
        await send.send(b"more")
        assert await receive.receive() == b"Hello, world!\n"
        assert await receive.receive() == b"more"


@pytest.mark.anyio
async def test_a_reader_that_was_given_an_exception(guest: GuestPaths) -> None:
    reader = asyncio.StreamReader()
    reader.set_exception(ConnectionResetError("gone"))
    with pytest.raises(ConnectionResetError, match="gone"):
        await VM().run_elf(guest("cat"), stdin=reader)


@pytest.mark.both_loops
async def test_a_generator_that_never_gives_anything_is_closed(guest: GuestPaths) -> None:
    closed: list[str] = []

    async def silent(name: str) -> AsyncIterator[bytes]:
        try:
            await anyio.sleep_forever()
            yield b""
        finally:
            closed.append(name)

    with anyio.move_on_after(0.05):
        await VM().run_elf(guest("cat"), stdin=silent("cancelled"))
    async with VM().open_elf(guest("cat"), stdin=silent("killed")) as process:
        await anyio.sleep(0.05)
        process.kill()
    assert closed == ["cancelled", "killed"]


@pytest.mark.both_loops
async def test_two_tasks_on_one_end(guest: GuestPaths) -> None:
    async with VM().open_elf(guest("cat"), stdin=PIPE) as process, anyio.create_task_group() as tasks:
        assert process.stdout is not None
        tasks.start_soon(process.stdout.receive)
        await anyio.sleep(0.02)
        for read in (process.stdout.receive, process.stdout.lines().__anext__):
            with pytest.raises(anyio.BusyResourceError):
                await read()
        assert process.stdin is not None
        await process.stdin.send(b"x")


@pytest.mark.both_loops
async def test_a_cancelled_body_may_wait_for_its_guest_in_a_shield(guest: GuestPaths) -> None:
    with anyio.move_on_after(0.1):
        async with VM().open_elf(guest("spin")) as process:
            try:
                await anyio.sleep(10)
            finally:
                with anyio.CancelScope(shield=True):
                    with anyio.move_on_after(10) as patience:
                        process.terminate()
                        assert await process.wait() == -15
                    assert not patience.cancelled_caught
    assert process.result.reason is Reason.SIGNALED


@pytest.mark.anyio
async def test_no_task_while_no_guest_runs(guest: GuestPaths, tmp_path: Path) -> None:
    before = asyncio.all_tasks()
    await VM().run_elf(guest("hello"))
    assert asyncio.all_tasks() == before
    (tmp_path / "in").write_bytes(b"text")
    with (tmp_path / "in").open("rb") as file:
        async with VM().open_elf(guest("cat"), stdin=file) as process:
            await process.wait()
    assert asyncio.all_tasks() == before


@pytest.mark.both_loops
async def test_memory_takes_bytes_that_are_mapped() -> None:
    async with VM().open_bytes(b"\x90" * 16, paused=True) as process:
        with pytest.raises(TypeError):
            process.memory.write(0, 5)  # type: ignore[arg-type]
        with pytest.raises(IndexError, match="not all mapped"):
            process.memory.fill(0, 1 << 40)
