"""Run one program and look at what it did."""

from pathlib import Path

import anyio

from aiopyvm import VM

GUESTS = Path(__file__).parents[1] / "guests" / "bin"


async def main() -> None:
    result = await VM().run_elf(GUESTS / "hello")
    print(result.text, end="")
    print(f"{result.reason.name}, status {result.returncode}")


if __name__ == "__main__":
    anyio.run(main)
