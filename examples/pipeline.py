"""Three programs in three machines, piped into one another: seq | sort -rn | head. Meanwhile a fourth one counts."""

from pathlib import Path

import anyio

from aiopyvm import VM

GUESTS = Path(__file__).parents[1] / "guests" / "bin"


async def largest() -> None:
    vm = VM()
    async with vm.pipeline([GUESTS / "seq", "1000"], [GUESTS / "sort", "-rn"], [GUESTS / "head", "-3"]) as pipeline:
        async for line in pipeline.stdout.lines("utf-8"):
            print("pipeline:", line)


async def primes() -> None:
    result = await VM().run_elf(GUESTS / "sieve", "20000")
    print("sieve:", result.text.strip())


async def main() -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(largest)
        tasks.start_soon(primes)


if __name__ == "__main__":
    anyio.run(main)
