"""Talks: guests that wait for one another are run by the engine alone, and all is as if the kernel had done it."""

from __future__ import annotations

import os
import subprocess
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import anyio
import pytest

from aiopyvm import VM, Limits, Reason, pipe
from aiopyvm.runtime.partners import Partners
from aiopyvm.runtime.talks import Going, Talk
from tests.conftest import GlibcGuests, GuestPaths
from tests.native import NativeRun

both_loops = pytest.mark.anyio
ROUNDS = 1000


class Outcome(NamedTuple):
    """What one member of a ring said and did."""

    said: str
    status: int | None
    instructions: int
    calls: dict[int, int]


@pytest.fixture
def talks(monkeypatch: pytest.MonkeyPatch) -> list[Talk]:
    """All talks of the test, as they end."""
    ended: list[Talk] = []
    go_on = Talk.go_on

    def watched(talk: Talk, until_ns: int) -> Going | None:
        going = go_on(talk, until_ns)
        ended.append(talk)
        return going

    monkeypatch.setattr(Talk, "go_on", watched)
    return ended


async def _ring(program: Path, members: int, seed: int, rounds: int = ROUNDS, engine: str = "native") -> list[Outcome]:
    pipes = [pipe() for _ in range(members)]
    async with AsyncExitStack() as stack:
        processes = [
            await stack.enter_async_context(
                VM(engine=engine).open_elf(
                    program, str(seed), str(rounds), str(number),
                    stdin=pipes[number - 1].receive, stdout=pipes[number].send,
                )
            )
            for number in range(members)
        ]  # fmt: skip
        runs = [process.runs[0] for process in processes]
        outcomes = []
        for process, run in zip(processes, runs, strict=True):
            await process.wait()
            calls = {n: count for n, count in run.kernel.calls.items() if count}
            said = (process.result.stderr or b"").decode()
            outcomes.append(Outcome(said, process.returncode, run.executed_instructions, calls))
    return outcomes


def _ring_of_the_host(program: Path, members: int, seed: int, rounds: int = ROUNDS) -> list[tuple[str, int]]:
    pipes = [os.pipe() for _ in range(members)]
    processes = [
        subprocess.Popen(
            [program, str(seed), str(rounds), str(number)],
            stdin=pipes[number - 1][0], stdout=pipes[number][1], stderr=subprocess.PIPE, text=True,
        )
        for number in range(members)
    ]  # fmt: skip
    for end in (end for both in pipes for end in both):
        os.close(end)
    return [(process.communicate(timeout=60)[1], process.returncode) for process in processes]


@both_loops
@pytest.mark.parametrize(("members", "seed"), [(2, 1), (2, 2), (3, 3), (5, 4)])
async def test_what_is_said_is_what_processes_of_the_host_say(
    members: int, seed: int, glibc_guest: GlibcGuests, native: NativeRun, talks: list[Talk]
) -> None:
    program = glibc_guest("talker")
    outcomes = await _ring(program, members, seed)
    assert [(outcome.said, outcome.status) for outcome in outcomes] == _ring_of_the_host(program, members, seed)
    assert talks


@both_loops
@pytest.mark.parametrize("seed", [0, 1])
async def test_who_asked_for_signals_is_told(
    seed: int, glibc_guest: GlibcGuests, native: NativeRun, talks: list[Talk]
) -> None:
    program = glibc_guest("signalled")
    outcomes = await _ring(program, 2, seed, 300)
    assert [(outcome.said, outcome.status) for outcome in outcomes] == _ring_of_the_host(program, 2, seed, 300)
    assert outcomes[0].said == "1 1\n"
    assert not talks


@both_loops
@pytest.mark.parametrize("members", [2, 3])
async def test_counts_are_those_without_talks(
    members: int, glibc_guest: GlibcGuests, talks: list[Talk], monkeypatch: pytest.MonkeyPatch
) -> None:
    program = glibc_guest("talker")
    outcomes = await _ring(program, members, 0)
    assert talks
    monkeypatch.setattr(Partners, "talk", lambda *_: None)
    assert await _ring(program, members, 0) == outcomes
    assert await _ring(program, members, 0, engine="python") == outcomes


@both_loops
@pytest.mark.parametrize("slice_", [1, 7, 997])
async def test_what_may_be_used_at_once_is_kept(
    slice_: int, glibc_guest: GlibcGuests, talks: list[Talk], monkeypatch: pytest.MonkeyPatch
) -> None:
    program = glibc_guest("talker")
    outcomes = await _ring(program, 2, 0, 300)
    monkeypatch.setattr("aiopyvm.runtime.talks.FUEL", slice_)
    monkeypatch.setattr("aiopyvm.runtime.talks._length", lambda guest: slice_)
    assert await _ring(program, 2, 0, 300) == outcomes


@both_loops
async def test_who_ends_in_the_middle_leaves_the_other_alone(guest: GuestPaths, talks: list[Talk]) -> None:
    """The one is killed, the other finds the end of its input, or is told of a broken pipe."""
    there, back = pipe(), pipe()
    async with (
        VM(engine="native").open_elf(guest("ping"), "100000000", stdin=back.receive, stdout=there.send) as ping,
        VM(engine="native").open_elf(guest("cat"), stdin=there.receive, stdout=back.send) as cat,
    ):
        while not talks:  # noqa: ASYNC110
            await anyio.sleep(0.01)
        assert ping.returncode is None
        ping.kill()
        await cat.wait()
    assert ping.result.reason is Reason.KILLED
    assert cat.returncode in (0, -13)


@both_loops
async def test_limits_on_time_end_a_talk(guest: GuestPaths, talks: list[Talk]) -> None:
    there, back = pipe(), pipe()
    limits = Limits(guest_time=0.2)
    async with (
        VM(engine="native").open_elf(
            guest("ping"), "100000000", stdin=back.receive, stdout=there.send, limits=limits
        ) as ping,
        VM(engine="native").open_elf(guest("cat"), stdin=there.receive, stdout=back.send) as cat,
    ):  # fmt: skip
        await ping.wait()
        await cat.wait()
    assert talks
    assert ping.result.reason is Reason.TIME_LIMIT
    assert cat.returncode in (0, -13)


@both_loops
async def test_the_event_loop_has_its_turns(guest: GuestPaths, talks: list[Talk]) -> None:
    there, back = pipe(), pipe()
    async with (
        VM(engine="native").open_elf(guest("ping"), "100000000", stdin=back.receive, stdout=there.send) as ping,
        VM(engine="native").open_elf(guest("cat"), stdin=there.receive, stdout=back.send) as cat,
    ):
        result = await VM(engine="native").run_elf(guest("hello"))
        for _ in range(50):
            await anyio.sleep(0)
        while not talks:  # noqa: ASYNC110
            await anyio.sleep(0.01)
        assert result.returncode == 0
        ping.terminate()
        cat.terminate()


@both_loops
async def test_nobody_wakes_those_who_wait_for_one_another(glibc_guest: GlibcGuests, talks: list[Talk]) -> None:
    """One of three says nothing any more: a deadlock, found when the talk has come to rest."""
    program, pipes = glibc_guest("talker"), [pipe() for _ in range(3)]
    rounds = ("1000", "1000", "500")
    async with AsyncExitStack() as stack:
        processes = [
            await stack.enter_async_context(
                VM(engine="native").open_elf(
                    program, "0", rounds[n], str(n), stdin=pipes[n - 1].receive, stdout=pipes[n].send
                )
            )
            for n in range(3)
        ]  # fmt: skip
        for process in processes:
            await process.wait()
    assert talks
    assert [process.returncode for process in processes] == [5, -13, 0]
