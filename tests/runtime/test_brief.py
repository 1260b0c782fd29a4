"""Brief slices: guests that soon wait again, stepped without their coroutines, behave and cost as all others."""

from __future__ import annotations

from signal import SIGPIPE

import anyio
import pytest

from aiopyvm import DEVNULL, VM, Limits, Reason, Runtime, pipe
from aiopyvm.engine.protocol import Seat
from aiopyvm.runtime import brief
from aiopyvm.runtime.guest import Guest
from aiopyvm.runtime.lane import Lane
from aiopyvm.runtime.partners import Partners
from aiopyvm.runtime.run import Run
from aiopyvm.runtime.talks import Going
from tests.conftest import GuestPaths
from tests.runtime.flying import fly
from tests.runtime.test_same_slices import _signals

ROUNDS = 300
both_loops = pytest.mark.anyio

Costs = list[tuple[int, int]]


async def _ping_pong(guests: GuestPaths, **options: object) -> Costs:
    there, back = pipe(), pipe()
    vm = VM(**options)  # type: ignore[arg-type]
    async with (
        vm.open_elf(guests("ping"), str(ROUNDS), stdin=back.receive, stdout=there.send) as ping,
        VM(**options).open_elf(guests("cat"), stdin=there.receive, stdout=back.send) as cat,  # type: ignore[arg-type]
    ):
        runs = ping.runs[0], cat.runs[0]
        await ping.wait()
        await cat.wait()
    assert (ping.returncode, cat.returncode) == (0, 0)
    return [(run.executed_instructions, run.main.system_ns) for run in runs]


@both_loops
@pytest.mark.parametrize("engine", ["python", "native"])
async def test_costs_are_what_they_are_elsewhere(
    guest: GuestPaths, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = await _ping_pong(guest, engine=engine)
    monkeypatch.setattr(Run, "begin_brief", lambda run: None)
    elsewhere = await _ping_pong(guest, engine=engine)
    assert [instructions for instructions, _ in outcome] == [instructions for instructions, _ in elsewhere]
    # Each byte is there when it is read, or comes to the read that waits: one of both runs may pay for a second look.
    for (_, cost), (_, other) in zip(outcome, elsewhere, strict=True):
        assert cost == pytest.approx(other, rel=0.5)


@both_loops
@pytest.mark.parametrize("engine", ["python", "native"])
async def test_who_is_not_taken_on_at_once_is_lined_up(
    guest: GuestPaths, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = await _ping_pong(guest, engine=engine)
    refused = 0

    def refuse(run: Run, guest: Guest) -> bool:
        nonlocal refused
        refused += 1
        return False

    monkeypatch.setattr(Run, "take_on", refuse)
    elsewhere = await _ping_pong(guest, engine=engine)
    assert refused > ROUNDS // 2
    assert [instructions for instructions, _ in outcome] == [instructions for instructions, _ in elsewhere]


@both_loops
@pytest.mark.parametrize("way", ["killed", "lined up"])
async def test_what_happens_to_one_that_is_handed_on(
    guest: GuestPaths, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From within the slice in which its read was finished."""
    happened = 0
    end = Run.end_brief

    def meddle(run: Run) -> None:
        nonlocal happened
        end(run)
        scheduler = run.scheduler
        if scheduler.handed is not None:
            happened += 1
            if way == "killed" and happened == ROUNDS // 2:
                scheduler.handed.run.end(Reason.KILLED)
            elif way == "lined up":
                scheduler.line_up()
                scheduler.line_up()
                assert scheduler.handed is None
                assert len(scheduler.lanes) == 1

    monkeypatch.setattr(Run, "end_brief", meddle)
    monkeypatch.setattr(Partners, "talk", lambda *_: None)
    there, back = pipe(), pipe()
    async with (
        VM().open_elf(guest("ping"), str(ROUNDS), stdin=back.receive, stdout=there.send) as ping,
        VM().open_elf(guest("cat"), stdin=there.receive, stdout=back.send) as cat,
    ):
        await ping.wait()
        await cat.wait()
    assert happened > ROUNDS // 4
    if way == "killed":
        assert Reason.KILLED in (ping.result.reason, cat.result.reason)
    else:
        assert (ping.returncode, cat.returncode) == (0, 0)


@both_loops
async def test_coroutines_are_left_alone(guest: GuestPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    brief_ones = 0
    slice_ = brief.brief_slice_of

    def count(
        guest: Guest, lane: Lane, began_ns: int, until_ns: int, seats: list[Seat], going: Going | None = None
    ) -> int:
        nonlocal brief_ones
        ended_ns = slice_(guest, lane, began_ns, until_ns, seats, going)
        brief_ones += ended_ns > 0
        return ended_ns

    monkeypatch.setattr(brief, "brief_slice_of", count)
    monkeypatch.setattr("aiopyvm.runtime.scheduler.brief_slice_of", count)
    await _ping_pong(guest, engine="python")
    assert brief_ones > ROUNDS


@pytest.mark.anyio
@pytest.mark.parametrize("engine", ["python", "flying"])
async def test_slices_that_turn_out_long_end_where_they_would(monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    async def outcome() -> tuple[bytes, int]:
        vm = Runtime(workers=0, engine="python").vm(quantum=997)
        result = await vm.run_bytes(_signals(), limits=Limits(instructions=2_000_000))
        assert result.reason is Reason.SIGNALED
        assert result.stdout is not None
        return result.stdout, result.instructions

    if engine == "flying":
        fly(monkeypatch)
    plain = await outcome()
    monkeypatch.setattr(Run, "begin_brief", lambda run: None)
    assert await outcome() == plain


@both_loops
async def test_the_event_loop_and_other_machines_have_their_turns(guest: GuestPaths) -> None:
    there, back = pipe(), pipe()
    async with (
        VM().open_elf(guest("ping"), "100000000", stdin=back.receive, stdout=there.send) as ping,
        VM().open_elf(guest("cat"), stdin=there.receive, stdout=back.send) as cat,
    ):
        result = await VM().run_elf(guest("fib"), "12", stdin=DEVNULL)
        assert result.returncode == 0
        for _ in range(3):
            await anyio.sleep(0.001)
        assert ping.returncode is None
        ping.kill()
        await cat.wait()
    assert ping.returncode == -9
    assert cat.returncode in (0, -SIGPIPE)


@pytest.mark.anyio
async def test_limits_end_it(guest: GuestPaths) -> None:
    there, back = pipe(), pipe()
    limits = Limits(instructions=20_000)
    async with (
        VM(limits=limits).open_elf(guest("ping"), "100000000", stdin=back.receive, stdout=there.send) as ping,
        VM().open_elf(guest("cat"), stdin=there.receive, stdout=back.send) as cat,
    ):
        await ping.wait()
        await cat.wait()
    assert ping.result.reason is Reason.INSTRUCTION_LIMIT
    assert ping.result.instructions == 20_000
