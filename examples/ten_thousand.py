"""Ten thousand guests at once: each says what it got and waits for more, parked at no cost, until told to end."""

import sys
import time
from pathlib import Path

import anyio

from aiopyvm import PIPE, VM, Runtime

GUESTS = Path(__file__).parents[1] / "guests" / "bin"


async def one(vm: VM, number: int, said: list[bytes], arrived: anyio.Semaphore, leave: anyio.Event) -> None:
    async with vm.open_elf(GUESTS / "echo", stdin=PIPE, name=f"echo-{number}") as process:
        said.append(await process.ask(b"I am %d\n" % number))
        arrived.release()
        await leave.wait()


async def main(count: int) -> None:
    said: list[bytes] = []
    arrived, leave = anyio.Semaphore(0), anyio.Event()
    before = time.perf_counter()
    async with Runtime() as runtime, anyio.create_task_group() as tasks:
        vm = runtime.vm()
        for number in range(count):
            tasks.start_soon(one, vm, number, said, arrived, leave)
        for _ in range(count):
            await arrived.acquire()
        print(f"{len(runtime.processes())} guests wait for input")
        print(f"{time.perf_counter() - before:.1f} s to get there", file=sys.stderr)
        leave.set()
    expected = {b"1: I am %d\n" % number for number in range(count)}
    print(f"all have left; the answers are right: {set(said) == expected}")


if __name__ == "__main__":
    anyio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
