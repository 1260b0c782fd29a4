"""Guests that wait for nothing but the signals of their descriptors (O_ASYNC), which somebody outside causes."""

from __future__ import annotations

import io
import os
import socket
import threading
from collections.abc import Awaitable, Callable
from typing import Literal

import anyio
import pytest

from aiopyvm import PIPE, VM, Reason
from tests.native import glibc_path, native_available

pytestmark = pytest.mark.anyio


async def test_a_signal_from_outside_is_no_deadlock() -> None:
    path = glibc_path("asyncserver")
    if path is None:
        pytest.skip("gcc -m32 is not there")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    async def talk() -> None:
        with anyio.fail_after(30):
            while True:
                await anyio.sleep(0.01)
                try:
                    stream = await anyio.connect_tcp("127.0.0.1", port)
                except OSError:
                    continue
                async with stream:
                    try:
                        await stream.send(b"hello")
                        assert await stream.receive() == b"hello"
                    except (anyio.EndOfStream, anyio.BrokenResourceError):
                        continue  # nobody listens yet
                    await stream.send(b"again")
                    assert await stream.receive() == b"again"
                return

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(talk)
        result = await VM(publish={("127.0.0.1", port): 8080}).run_elf(path)
    assert result.ok, (result.reason, result.detail)


async def test_without_an_owner_or_an_outside_it_is_one() -> None:
    path = glibc_path("asyncserver")
    if path is None:
        pytest.skip("gcc -m32 is not there")
    assert (await VM().run_elf(path)).reason is Reason.DEADLOCK
    assert (await VM(publish={("127.0.0.1", 0): 8080}).run_elf(path, "unowned")).reason is Reason.DEADLOCK


@pytest.mark.native
@pytest.mark.parametrize("clock", ["real", "virtual"])
async def test_streams_of_the_host_send_the_signals_that_its_pipes_send(clock: Literal["real", "virtual"]) -> None:
    path = glibc_path("sigiostreams")
    if path is None or not native_available():
        pytest.skip("the host runs no i386 programs, or gcc -m32 is not there")

    def talk(answers: int, questions: int) -> None:
        with open(answers, "wb", buffering=0) as to, open(questions, "rb") as source:
            for line in source:
                if line == b"end\n":
                    to.close()
                elif not line.startswith(b"-"):
                    to.write(line)

    async def told(run: Callable[[int, int], Awaitable[bytes]]) -> bytes:
        (stdin, answers), (questions, stdout) = os.pipe(), os.pipe()
        talker = threading.Thread(target=talk, args=(answers, questions))
        talker.start()
        try:
            return await run(stdin, stdout)
        finally:
            os.close(stdin)
            os.close(stdout)
            await anyio.to_thread.run_sync(talker.join)

    async def natively(stdin: int, stdout: int) -> bytes:
        ran = await anyio.run_process([path], input=None, stdin=stdin, stdout=stdout, stderr=PIPE)
        assert ran.returncode == 0
        return ran.stderr

    async def here(stdin: int, stdout: int) -> bytes:
        with open(stdin, "rb", closefd=False) as source, open(stdout, "wb", closefd=False) as sink:
            result = await VM(clock=clock).run_elf(path, stdin=source, stdout=sink, stderr=PIPE)
        assert result.ok, (result.reason, result.detail)
        return result.stderr or b""

    assert (await told(here)).decode().splitlines() == (await told(natively)).decode().splitlines()


async def test_a_stream_from_which_nothing_can_come_any_more_keeps_nobody_waiting() -> None:
    path = glibc_path("asyncwaiter")
    if path is None:
        pytest.skip("gcc -m32 is not there")
    for fd, stdin in (("0", io.BytesIO(b"")), ("1", io.BytesIO(b"x"))):
        with anyio.fail_after(30):
            result = await VM().run_elf(path, fd, stdin=stdin, stdout=io.BytesIO())
        assert result.reason is Reason.DEADLOCK, (fd, result.reason)
