"""Guests that wait for nothing but the signals of their descriptors (O_ASYNC), which somebody outside causes."""

from __future__ import annotations

import socket

import anyio
import pytest

from aiopyvm import VM, Reason
from tests.native import glibc_path

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
