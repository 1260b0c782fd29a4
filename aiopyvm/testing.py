"""Helpers for tests of programs, and of code that runs them.

`Transcript` is a conversation with an interactive guest. `run_deterministically` runs a program so that every run is
the same. `check_receive_stream`, `check_send_stream` hold a stream of one's own to what a guest's standard stream
needs. Under trio's `autojump_clock` guests on the real clock follow trio's clock: their sleeps take no time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from subprocess import PIPE
from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel

from aiopyvm.runtime.process import Process
from aiopyvm.runtime.result import Result
from aiopyvm.runtime.vm import VM

SEED = 20010909


async def run_deterministically(source: Any, *args: Any, seed: int = SEED, **options: Any) -> Result:
    """Run an ELF program with a fixed seed and the virtual clock: the same instructions in every run, and no waiting.

    Options are those of `VM.run_elf`. Raises what that raises.
    """
    return await VM(seed=seed, clock="virtual").run_elf(source, *args, **options)


class Transcript:
    """A conversation with a guest: `send` a line, `expect` an answer; `lines` is all that was said, "> " before our
    own."""

    def __init__(self, process: Process, encoding: str = "utf-8") -> None:
        self.process = process
        self.lines: list[str] = []
        self._encoding = encoding

    async def ask(self, line: str = "") -> str:
        """Send a line (nothing when empty); return what the guest writes until it waits for input, or ends."""
        if line:
            self.lines.append(f"> {line}")
        answer = (await self.process.ask(f"{line}\n".encode(self._encoding) if line else b"")).decode(self._encoding)
        self.lines += answer.splitlines()
        return answer

    async def expect(self, line: str, answer: str) -> None:
        """`ask`, and raise AssertionError unless `answer` is in what comes back."""
        said = await self.ask(line)
        if answer not in said:
            raise AssertionError(
                f"asked {line!r}, expected {answer!r}, got {said!r}; so far:\n" + "\n".join(self.lines)
            )


@asynccontextmanager
async def conversation(source: Any, *args: Any, **options: Any) -> AsyncIterator[Transcript]:
    """Open an interactive program with both its streams in our hands; options are those of `VM.open_elf`."""
    async with VM(clock="virtual", seed=SEED).open_elf(source, *args, stdin=PIPE, **options) as process:
        yield Transcript(process)


async def check_receive_stream(make: Callable[[bytes], Awaitable[Any]], data: bytes = b"one\ntwo\n" * 5000) -> None:
    """Check that `make(data)` gives a stream that a guest can read as its standard input.

    It must give exactly `data`, then its end, again and again. Raises AssertionError.
    """
    from aiopyvm.host.streams import open_source

    source = open_source(await make(data))
    received = b""
    while chunk := await source.receive(1000):
        received += chunk
    if received != data:
        raise AssertionError(f"the stream gave {len(received)} bytes that are not the {len(data)} expected")
    if await source.receive(1) != b"":
        raise AssertionError("the stream gave something after its end")
    await source.finish()


async def check_send_stream(
    make: Callable[[], Awaitable[tuple[Any, Callable[[], Awaitable[bytes]]]]], data: bytes = b"one\ntwo\n" * 5000
) -> None:
    """Check that `make()` gives (a stream, how to get all it received) that can be a guest's standard output.

    Everything must arrive, in order, while somebody reads. Raises AssertionError.
    """
    from aiopyvm.host.streams import open_sink

    stream, receive = await make()
    sink = open_sink(stream)
    received: list[bytes] = []

    async def read() -> None:
        received.append(await receive())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        for start in range(0, len(data), 7000):
            await sink.send(data[start : start + 7000])
        close = getattr(stream, "aclose", None)
        if close is not None:
            await close()
    if received != [data]:
        raise AssertionError(f"{sum(map(len, received))} of {len(data)} bytes arrived as they were sent")
