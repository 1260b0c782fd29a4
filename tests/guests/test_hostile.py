"""Programs that take all they can get end with a typed result, and a neighbour in their runtime sees nothing of it.

Which error refuses what is Linux's own for the limit that was reached (clone(2), mmap(2), pipe(2), symlink(7) ...).
"""

from __future__ import annotations

import anyio
import pytest

from aiopyvm import VM, Limits, Reason, Result, Runtime
from tests.conftest import GlibcGuests, GuestPaths

MEMORY = 32 << 20
LIMITS = Limits(memory=MEMORY, instructions=50_000_000, output=1 << 20, processes=100, open_files=200)
SHORT = Limits(memory=MEMORY, instructions=200_000, processes=100, open_files=200)  # for what never ends
ENDLESS = {Reason.INSTRUCTION_LIMIT, Reason.MEMORY_LIMIT}
VERDICTS = {
    "forks": ENDLESS,
    "sleeping_forks": b"processes refused with EAGAIN\n",
    "threads": b"threads refused with EAGAIN\n",
    "memory": b"memory refused with ENOMEM\n",
    "mappings": ENDLESS,
    "children_with_memory": {Reason.MEMORY_LIMIT},
    "descriptors": b"descriptors refused with EMFILE\n",
    "full_pipes": b"pipes refused with EMFILE\n",
    "sockets_in_sockets": ENDLESS,
    "files": {Reason.MEMORY_LIMIT},
    "links": b"open of a loop: ELOOP\nopen of a tower: ELOOP\n",
    "deep": ENDLESS,
    "signals": ENDLESS | {Reason.SIGNALED},
    "queued": b"signals refused with EAGAIN\n",
    "output": {Reason.OUTPUT_LIMIT},
}
pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("what", VERDICTS)
async def test_it_ends_by_itself_or_by_a_limit(what: str, glibc_guest: GlibcGuests, guest: GuestPaths) -> None:
    verdict = VERDICTS[what]
    neighbours: list[Result] = []

    async def neighbour(runtime: Runtime) -> None:
        for _ in range(3):
            neighbours.append(await runtime.vm().run_elf(guest("hello")))

    async with Runtime() as runtime, anyio.create_task_group() as tasks:
        tasks.start_soon(neighbour, runtime)
        vm = runtime.vm(limits=SHORT if isinstance(verdict, set) and verdict >= ENDLESS else LIMITS)
        result = await vm.run_elf(glibc_guest("hostile"), what)
        assert not result.unknown_syscalls
        if isinstance(verdict, bytes):
            assert (result.reason, result.returncode, result.stdout) == (Reason.EXITED, 0, verdict)
        else:
            assert result.reason in verdict
        assert result.peak_memory <= MEMORY
    assert [(r.stdout, r.instructions) for r in neighbours] == [(b"Hello, world!\n", neighbours[0].instructions)] * 3


async def test_a_mapping_larger_than_all_memory_is_refused_and_the_program_goes_on(glibc_guest: GlibcGuests) -> None:
    result = await VM(limits=Limits(memory=MEMORY)).run_elf(glibc_guest("hostile"), "larger")
    assert (result.stdout, result.returncode, result.limits_hit) == (
        b"a larger mapping refused with ENOMEM\n",
        0,
        frozenset({"memory"}),
    )
