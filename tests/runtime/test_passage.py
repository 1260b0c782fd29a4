"""System calls that an engine of generated code has handled in passing: as on any other, and not beyond a limit."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import anyio
import pytest

from aiopyvm import VM, Limits, Reason, assemble
from aiopyvm.engine.protocol import Core, Exit
from aiopyvm.isa.state import MODE_NON_FLAT
from aiopyvm.runtime import driver
from tests.runtime import flying
from tests.runtime.flying import FlyingEngine, fly

pytestmark = pytest.mark.anyio

CALLS = assemble("mov esi, 50; again: mov eax, 20; int 0x80; dec esi; jnz again; mov ebx, eax; mov eax, 1; int 0x80")
FOR_EVER = assemble("again: mov eax, 20; int 0x80; jmp again")
TLS = assemble(  # GS over everything from 0x1200 on; then, by a second set_thread_area(2), over a page
    "mov eax, 243; mov ebx, 0x1100; int 0x80; mov ecx, [0x1100]; lea ecx, [ecx*8+3]; mov gs, ecx;"
    "mov dword ptr [0x1108], 0; mov eax, 243; int 0x80; mov ebx, gs:[0]; mov eax, 1; int 0x80"
)

SIGNALS = assemble(  # 20 signals to itself, each counted by a handler
    "mov dword ptr [0x1180], 0x1100; mov dword ptr [0x1184], 0x04000000; mov dword ptr [0x1188], 0x1120;"
    "mov eax, 174; mov ebx, 10; mov ecx, 0x1180; xor edx, edx; mov esi, 8; int 0x80; mov ebp, 20;"
    "again: mov eax, 20; int 0x80; mov ebx, eax; mov ecx, 10; mov eax, 37; int 0x80; dec ebp; jnz again;"
    "mov ebx, [0x11f0]; mov eax, 1; int 0x80"
)
HANDLER = assemble("inc dword ptr [0x11f0]; ret")
RESTORER = assemble("pop eax; mov eax, 119; int 0x80")


class Engine(FlyingEngine):
    """Counts runs, and calls in passing."""

    def __init__(self) -> None:
        super().__init__()
        self.runs = 0
        self.calls = 0
        self.modes: set[int] = set()  # after a call

    def run(self, core: Core, budget: int, patience: int = 0, on_call: Callable[[], int] | None = None) -> Exit:
        """As the flying one's."""
        self.runs += 1

        def call() -> int:
            assert on_call is not None
            self.calls += 1
            before = core.cpu.instructions
            left = on_call()
            assert core.cpu.instructions == before
            self.modes.add(core.cpu.mode)
            assert left <= 0 or not core.cpu.mode
            return left

        return super().run(core, budget, patience, call if on_call is not None else None)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.setattr(flying, "FlyingEngine", lambda us: Engine())
    made = fly(monkeypatch)
    assert isinstance(made, Engine)
    yield made
    assert made.idle


async def test_calls_that_complete_do_not_leave_the_engine(engine: Engine) -> None:
    result = await VM().run_bytes(CALLS)
    assert (result.returncode, result.instructions) == (1, 1 + 50 * 4 + 3)
    assert engine.calls == 51
    assert engine.runs < 20


@pytest.mark.parametrize("options", [{"seed": 1}, {"clock": "virtual"}])
async def test_runs_of_one_order_do_without(engine: Engine, options: dict[str, int | str]) -> None:
    result = await VM(**options).run_bytes(CALLS)  # type: ignore[arg-type]
    assert (result.returncode, result.instructions) == (1, 1 + 50 * 4 + 3)
    assert engine.calls == 0


async def test_limits_hold(engine: Engine) -> None:
    result = await VM(limits=Limits(instructions=1000)).run_bytes(FOR_EVER)
    assert (result.reason, result.instructions) == (Reason.INSTRUCTION_LIMIT, 1000)
    result = await VM(limits=Limits(guest_time=0.01)).run_bytes(FOR_EVER)
    assert result.reason is Reason.TIME_LIMIT
    assert engine.calls


async def test_an_event_loop_has_its_turn(engine: Engine) -> None:
    async with VM().open_bytes(FOR_EVER) as process:
        await anyio.sleep(0.01)
        process.kill()
    assert process.returncode == -9
    assert engine.calls


async def test_what_a_trace_raises_is_the_callers(engine: Engine) -> None:
    def show(line: str) -> None:
        if "getpid" in line:
            raise LookupError(line)

    with pytest.raises(LookupError, match="getpid"):
        await VM().run_bytes(CALLS, strace=show)


async def test_a_call_that_changes_the_mode_ends_the_passage(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "TURN_NS", 60_000_000_000)  # else the time of a turn may do so first
    descriptor = b"".join(n.to_bytes(4, "little") for n in (0xFFFFFFFF, 0x1200, 0xFFFFF, 0x51))
    image = TLS.ljust(0x100, b"\x90") + descriptor.ljust(0x100, b"\0") + (77).to_bytes(4, "little")
    result = await VM().run_bytes(image.ljust(0x1000, b"\0"), load_at=0x1000)
    assert result.returncode == 77
    assert engine.modes == {0, MODE_NON_FLAT}


async def test_signals_are_delivered_in_passing(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "TURN_NS", 60_000_000_000)  # else the time of a turn may end it
    image = SIGNALS.ljust(0x100, b"\x90") + HANDLER.ljust(0x20, b"\x90") + RESTORER
    result = await VM().run_bytes(image.ljust(0x1000, b"\0"), load_at=0x1000)
    assert result.returncode == 20
    assert engine.calls == 1 + 3 * 20 + 1
    assert engine.runs < 20
