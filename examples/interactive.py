"""Talk to an interactive program: send, and read all that it writes until it waits for input again."""

from pathlib import Path

import anyio

from aiopyvm import PIPE, VM

GUESTS = Path(__file__).parents[1] / "guests" / "bin"


async def main() -> None:
    async with VM().open_elf(GUESTS / "calculator", stdin=PIPE) as process:
        print((await process.ask()).decode(), end="")
        for line in ("6 * 7", "(1 + 2) * -4", "1 / 0", "quit"):
            print(line)
            print((await process.ask(line.encode() + b"\n")).decode(), end="")
    print(f"status {process.returncode}")


if __name__ == "__main__":
    anyio.run(main)
