"""LOCKed instructions are atomic wherever memory is shared: by threads, processes, machines on several workers."""

from __future__ import annotations

import struct

import anyio
import pytest

from aiopyvm import Runtime
from aiopyvm.engine.native.aot import ahead_of_time
from aiopyvm.engine.native.codearena import unsupported
from tests.conftest import GlibcGuests

ENGINES = ("python", "native")


@pytest.fixture(autouse=True)
def generated_code() -> None:
    """So that it is what executes."""
    if unsupported() is None:
        ahead_of_time().wait(300)


@pytest.mark.anyio
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("workers", [0, 2])
async def test_threads_and_processes_of_one_machine(engine: str, workers: int, glibc_guest: GlibcGuests) -> None:
    times = 3000
    vm = Runtime(workers=workers, engine=engine).vm(quantum=997)
    result = await vm.run_elf(glibc_guest("locked"), str(times))
    every = f"{2 * times} {2 * times} {2 * times}"
    assert result.stdout.decode().splitlines() == [
        f"threads {every}, some were lost without LOCK",  # else nothing was interleaved, and this shows nothing
        f"processes {every}, some were lost without LOCK",
    ]


@pytest.mark.anyio
@pytest.mark.parametrize("engine", ENGINES)
async def test_machines_that_map_one_file(engine: str, glibc_guest: GlibcGuests) -> None:
    times, machines = 1500, 3
    vm = Runtime(workers=2, engine=engine).vm(root={"tmp": {"counts": bytes(4096)}}, quantum=997)
    async with anyio.create_task_group() as group:
        for _ in range(machines):
            group.start_soon(vm.run_elf, glibc_guest("locked"), str(times), "/tmp/counts")
    counts = struct.unpack("<4I", (await vm.path("/tmp/counts").read_bytes())[:16])
    assert counts[:3] == (machines * times,) * 3
    assert counts[3] <= machines * times


@pytest.mark.anyio
async def test_a_machine_that_maps_what_another_one_is_writing(glibc_guest: GlibcGuests) -> None:
    """The first one has the file's pages in place, and flies, until the second one comes."""
    vm = Runtime(workers=2, engine="native").vm(root={"tmp": {"counts": bytes(4096)}})
    path = glibc_guest("locked")
    async with anyio.create_task_group() as group:
        group.start_soon(vm.run_elf, path, "2000000", "/tmp/counts")
        while not any((await vm.path("/tmp/counts").read_bytes())[:4]):  # noqa: ASYNC110
            await anyio.sleep(0.001)
        group.start_soon(vm.run_elf, path, "5000", "/tmp/counts")
    counts = struct.unpack("<4I", (await vm.path("/tmp/counts").read_bytes())[:16])
    assert counts[:3] == (2_005_000,) * 3
