"""Machine code without any file: bytes, a flat binary, registers and memory afterwards."""

from pathlib import Path

import anyio

from aiopyvm import VM, disassemble

GUESTS = Path(__file__).parents[1] / "guests" / "bin"


async def main() -> None:
    code = bytes.fromhex("b8 06000000  bb 07000000  0fafc3  a3 20000000  90 90")
    print(disassemble(code))
    async with VM().open_bytes(code + bytes(64)[: 0x40 - len(code)], paused=True) as process:
        for _ in range(4):
            await process.step()
        print(f"eax = {process.registers.eax}, memory[0x20] = {process.memory.read_u32(0x20)}")
    result = await VM().run_bytes(code[:13])
    print(f"{result.reason.name}, eax = {result.registers.eax}")
    print((await VM().run_flat(GUESTS / "hello_raw.bin", load_at=0x10000)).text, end="")


if __name__ == "__main__":
    anyio.run(main)
