"""Under trio: a deadline of trio's own ends a guest at once, and a nursery starts one."""

from pathlib import Path

import trio

from aiopyvm import VM

GUESTS = Path(__file__).parents[1] / "guests" / "bin"


async def main() -> None:
    with trio.CancelScope() as scope:
        async with VM().open_elf(GUESTS / "spin") as process:
            print(f"guest: {await process.stdout.receive()!r}")
            scope.deadline = trio.current_time() + 0.2
            await process.wait()
    print(f"cancelled: {scope.cancelled_caught}, {process.result.reason.name}, status {process.returncode}")

    async with trio.open_nursery() as nursery:
        process = await nursery.start(VM().run_elf, GUESTS / "fib", "16")
        print(f"guest {process.pid} runs in the nursery")
        await process.wait()
    print(process.result.text, end="")


if __name__ == "__main__":
    trio.run(main)
