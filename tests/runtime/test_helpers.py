"""`aiopyvm.testing`, and guests under trio's own test clock."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
import trio
import trio.testing

from aiopyvm import VM, Limits, Reason, Runtime, pipe
from aiopyvm.testing import check_receive_stream, check_send_stream, conversation, run_deterministically
from tests.conftest import GuestPaths
from tests.runtime.machine_code import sleeper


@pytest.mark.both_loops
async def test_conversation(guest: GuestPaths) -> None:
    async with conversation(guest("calculator")) as talk:
        await talk.ask()
        await talk.expect("6 * 7", "42")
        with pytest.raises(AssertionError, match="expected '5'"):
            await talk.expect("1 + 1", "5")
        await talk.ask("quit")
    assert talk.lines[:3] == ["> ", "> 6 * 7", "42"]


@pytest.mark.both_loops
async def test_run_deterministically(guest: GuestPaths) -> None:
    first = await run_deterministically(guest("hello"))
    second = await run_deterministically(guest("hello"))
    assert (first.stdout, first.instructions) == (second.stdout, second.instructions)


@pytest.mark.both_loops
async def test_stream_checks() -> None:
    opened = []

    async def source(data: bytes) -> Any:
        send, receive = anyio.create_memory_object_stream[bytes](1000)
        opened.append(receive)
        for start in range(0, len(data), 100):
            send.send_nowait(data[start : start + 100])
        send.close()
        return receive

    async def sink() -> Any:
        send, receive = pipe()

        async def everything() -> bytes:
            return b"".join([chunk async for chunk in receive])

        return send, everything

    await check_receive_stream(source)
    await check_send_stream(sink)

    async def shortened(data: bytes) -> Any:
        return await source(data[1:])

    with pytest.raises(AssertionError):
        await check_receive_stream(shortened)
    for stream in opened:
        stream.close()


@pytest.mark.trio
async def test_guests_follow_trios_clock(autojump_clock: trio.testing.MockClock) -> None:
    before = trio.current_time()
    result = await VM().run_bytes(sleeper(3600 * 10**9, status=3))
    assert result.returncode == 3
    assert 3600 <= trio.current_time() - before < 3700
    result = await VM(limits=Limits(wall_time=60)).run_bytes(sleeper(3600 * 10**9))
    assert result.reason is Reason.TIME_LIMIT


@pytest.mark.trio
async def test_trios_own_streams_and_nursery(guest: GuestPaths, nursery: trio.Nursery) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    process = await nursery.start(lambda **o: VM().run_elf(guest("cat"), stdin=theirs, stdout=theirs, **o))
    await ours.send_all(b"through trio's streams\n")
    assert await ours.receive_some() == b"through trio's streams\n"
    await ours.send_eof()
    assert await process.wait() == 0
    await ours.aclose()
    await theirs.aclose()


@pytest.mark.anyio
async def test_asyncios_own_streams(guest: GuestPaths) -> None:
    import asyncio
    import socket

    left, right = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=left)
    guest_reader, guest_writer = await asyncio.open_connection(sock=right)
    run = asyncio.ensure_future(VM().run_elf(guest("cat"), stdin=guest_reader, stdout=guest_writer))
    writer.write(b"through asyncio's streams\n")
    assert await reader.readline() == b"through asyncio's streams\n"
    writer.write_eof()
    assert (await run).ok
    for stream in (writer, guest_writer):
        stream.close()
        await stream.wait_closed()


@pytest.mark.anyio
async def test_asyncios_own_cancellation_and_timeouts(guest: GuestPaths) -> None:
    import asyncio

    before = asyncio.all_tasks()
    task = asyncio.ensure_future(VM().run_elf(guest("spin")))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05), VM().open_elf(guest("spin")) as process:
            await process.wait()
    assert process.result.reason is Reason.CANCELLED
    assert asyncio.all_tasks() == before


@pytest.mark.trio
async def test_the_wall_time_of_a_runtime_begins_with_its_first_guest(autojump_clock: trio.testing.MockClock) -> None:
    runtime = Runtime(limits=Limits(wall_time=1.0))
    vm = runtime.vm(limits=Limits(wall_time=0.8))
    await trio.sleep(5)
    assert (await vm.run_bytes(sleeper(600_000_000))).ok
    result = await vm.run_bytes(sleeper(600_000_000))
    assert result.reason is Reason.TIME_LIMIT
    assert result.detail == "more than 1.0 s of wall time"
    assert result.wall_time == pytest.approx(0.4)
    alone = await VM(limits=Limits(wall_time=0.5)).run_bytes(sleeper(600_000_000))
    assert alone.detail == "more than 0.5 s of wall time"
    assert alone.wall_time == pytest.approx(0.5)
