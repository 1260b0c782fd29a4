"""Step through a program, see what every instruction changes, poke a register and memory, stop at a breakpoint."""

from pathlib import Path

import anyio

from aiopyvm import VM, assemble

GUESTS = Path(__file__).parents[1] / "guests" / "bin"


async def step_through() -> None:
    code = assemble("mov ecx, 3; again: add eax, eax; loop again")
    async with VM().open_bytes(code, paused=True) as process:
        process.registers.eax = 7
        while (step := await process.step()) is not None:
            changes = " ".join(f"{name}={value:#x}" for name, value in dict(step.changes).items())
            print(f"{step.address:08x}  {step.code.hex():12} {step.text:20} {changes}")
        print(f"eax = {process.registers.eax}")


async def stop_at_a_function() -> None:
    async with VM().open_elf(GUESTS / "fib", "10", paused=True) as process:
        fib = process.symbols["fib"]
        process.breakpoints.add(fib)
        await process.resume()
        print(f"stopped at fib, n = {process.registers.eax}")
        process.registers.eax = 6  # fib takes its argument in EAX: compute another one
        process.breakpoints.discard(fib)
        await process.resume()
        print((await process.stdout.receive()).decode(), end="")


async def main() -> None:
    await step_through()
    await stop_at_a_function()


if __name__ == "__main__":
    anyio.run(main)
