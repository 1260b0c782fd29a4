"""The host's threads that make calls for an event loop (`host/threads.py`): where, in which order, what they leave."""

from __future__ import annotations

import gc
import threading
import time

import anyio
import anyio.lowlevel
import pytest

from aiopyvm.host.threads import Workers, loop_caller

both_loops = pytest.mark.both_loops


def test_calls_are_made_on_other_threads() -> None:
    workers = Workers()
    seen: list[tuple[int, int]] = []
    done = threading.Event()
    call_made = workers.submit(lambda n: seen.append((n, threading.get_ident())), 7, done.set)
    assert call_made.wait(5)
    assert done.wait(5)
    assert call_made.made
    assert [n for n, _ in seen] == [7]
    assert seen[0][1] != threading.get_ident()
    for _ in range(20):
        assert workers.submit(time.sleep, 0).wait(5)
    assert workers.threads <= 3
    workers.drain()


def test_a_call_tells_what_it_cost_and_raised() -> None:
    workers = Workers()
    gate = threading.Event()

    def wait(_: int) -> None:
        gate.wait(5)
        time.sleep(0.05)

    waiting = workers.submit(wait, 0)
    assert not waiting.made
    assert not waiting.wait(0.01)
    gate.set()
    assert waiting.wait(5)
    assert waiting.wall_ns >= 50_000_000 > waiting.cpu_ns
    failing = workers.submit(lambda n: 1 // n, 0)
    assert failing.wait(5)
    assert isinstance(failing.error, ZeroDivisionError)


def test_a_host_that_refuses_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls are made by the caller, or by the threads that are there."""
    refused = Workers()
    with monkeypatch.context() as patch:

        def start(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        patch.setattr(threading.Thread, "start", start)
        seen: list[int] = []
        assert refused.submit(seen.append, 1, lambda: seen.append(2)).made
        assert seen == [1, 2]
    assert refused.threads == 0
    assert refused.submit(seen.append, 3).wait(5)
    assert refused.threads == 1
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        gate = threading.Event()
        first = refused.submit(lambda _: gate.wait(5), 0)
        second = refused.submit(seen.append, 4)
        assert not second.made
        gate.set()
        assert first.wait(5)
        assert second.wait(5)
    assert seen == [1, 2, 3, 4]


@both_loops
async def test_a_thread_calls_the_event_loop() -> None:
    called = anyio.Event()
    call_loop = loop_caller()
    threading.Thread(target=call_loop, args=(called.set,)).start()
    with anyio.fail_after(5):
        await called.wait()


def test_an_event_loop_that_has_ended_is_not_called() -> None:
    for backend in ("asyncio", "trio"):

        async def get() -> object:
            return loop_caller()

        call_loop = anyio.run(get, backend=backend)
        call_loop(lambda: pytest.fail("called"))  # type: ignore[operator]
        gc.collect()
