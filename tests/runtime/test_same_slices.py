"""System calls in passing cost what they cost elsewhere, and so do watched ones: who runs when does not depend on
them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from aiopyvm import VM, Limits, Reason, Runtime
from tests.conftest import GuestPaths
from tests.runtime.flying import fly
from tests.runtime.machine_code import call, program

SIGUSR1 = 10


def _signals() -> bytes:
    """A parent sends itself a hundred signals, and makes a number of what its child has counted to between them."""
    text = (
        "jmp main; handler: inc dword ptr [0xa00]; "
        + call("signal", SIGUSR1, 2)  # 2 is the handler, which is reset at each signal
        + "ret; main: mov eax, 90; mov ebx, 0x800; int 0x80; mov esi, eax; "  # old mmap: a shared page
        + call("signal", SIGUSR1, 2)
        + call("fork")
        + "test eax, eax; jnz parent; count: inc dword ptr [esi]; jmp count; "
        "parent: mov ebp, 100; "
        "again: mov eax, 20; int 0x80; mov ebx, eax; mov ecx, 10; mov eax, 37; int 0x80; "  # getpid, kill
        "mov ecx, 300; look: imul edi, edi, 31; add edi, [esi]; dec ecx; jnz look; dec ebp; jnz again; "
        "mov [0xa04], edi; "
        + call("write", 1, 0xA00, 8)
        + "mov eax, 37; xor ebx, ebx; mov ecx, 9; int 0x80; "  # kill the group
    )
    image = bytearray(program(text))
    image[0x800:0x818] = b"".join(v.to_bytes(4, "little") for v in (0, 4096, 3, 0x21, 0xFFFFFFFF, 0))
    return bytes(image)


@pytest.mark.anyio
@pytest.mark.parametrize("quantum", [997, 3000])
async def test_slices_end_at_the_same_counts(monkeypatch: pytest.MonkeyPatch, quantum: int) -> None:
    async def outcome() -> tuple[bytes, int]:
        vm = Runtime(workers=0, engine="python").vm(quantum=quantum)
        result = await vm.run_bytes(_signals(), limits=Limits(instructions=3_000_000))
        assert result.reason is Reason.SIGNALED
        assert result.stdout is not None
        return result.stdout, result.instructions

    plain = await outcome()
    assert plain[0][:4] == (100).to_bytes(4, "little")
    fly(monkeypatch)
    assert await outcome() == plain


@pytest.mark.anyio
async def test_with_a_seed_whether_somebody_watches_does_not_show(guest: GuestPaths) -> None:
    lines: list[str] = []

    async def outcome(**watched: Callable[[str], None]) -> list[tuple[int, float]]:
        stages = [guest("seq"), "300"], [guest("sort"), "-rn"], [guest("grep"), "7"]
        async with VM(seed=3, clock="virtual").pipeline(*stages, **watched) as pipeline:  # type: ignore[arg-type]
            assert pipeline.stdout is not None
            async for _ in pipeline.stdout:
                pass
        return [(r.instructions, r.guest_time) for r in pipeline.results]

    assert await outcome() == await outcome(strace=lines.append)
    assert lines
