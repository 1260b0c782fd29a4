"""Runs a freestanding guest on Unicorn, with just the system calls that the benchmark guests make."""

from __future__ import annotations

import importlib
import importlib.util
import struct
from pathlib import Path
from typing import Any

_PAGE = 4096
_STACK_TOP, _STACK_SIZE = 0xFFFF0000, 1 << 20
_HEAP, _HEAP_SIZE = 0x20000000, 64 << 20


def available() -> bool:
    """Whether Unicorn is installed."""
    return importlib.util.find_spec("unicorn") is not None


def run(path: Path, argv: list[str]) -> bytes:
    """Run to its exit and return what it wrote."""
    from elftools.elf.elffile import ELFFile

    unicorn: Any = importlib.import_module("unicorn")
    x86: Any = importlib.import_module("unicorn.x86_const")
    machine = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_32)
    with path.open("rb") as file:
        elf = ELFFile(file)
        for segment in elf.iter_segments("PT_LOAD"):
            start = segment["p_vaddr"] & -_PAGE
            end = (segment["p_vaddr"] + segment["p_memsz"] + _PAGE - 1) & -_PAGE
            machine.mem_map(start, end - start)
            machine.mem_write(segment["p_vaddr"], segment.data())
        entry = elf["e_entry"]
    machine.mem_map(_STACK_TOP - _STACK_SIZE, _STACK_SIZE)
    machine.mem_map(_HEAP, _HEAP_SIZE)
    machine.reg_write(x86.UC_X86_REG_ESP, _build_stack(machine, argv))
    output = bytearray()
    heap_end = _HEAP

    def interrupt(uc: Any, _number: int, _data: object) -> None:
        nonlocal heap_end
        number, ebx, ecx, edx = (
            uc.reg_read(r) for r in (x86.UC_X86_REG_EAX, x86.UC_X86_REG_EBX, x86.UC_X86_REG_ECX, x86.UC_X86_REG_EDX)
        )
        if number == 1:
            uc.emu_stop()
        elif number == 4:
            output.extend(uc.mem_read(ecx, edx))
            uc.reg_write(x86.UC_X86_REG_EAX, edx)
        elif number == 45:
            heap_end = ebx if _HEAP <= ebx <= _HEAP + _HEAP_SIZE else heap_end
            uc.reg_write(x86.UC_X86_REG_EAX, heap_end)
        else:
            raise RuntimeError(f"{path}: system call {number}")

    machine.hook_add(unicorn.UC_HOOK_INTR, interrupt)
    machine.emu_start(entry, 0)
    return bytes(output)


def _build_stack(machine: Any, argv: list[str]) -> int:
    strings = b"".join(arg.encode() + b"\0" for arg in argv)
    at = (_STACK_TOP - len(strings)) & -16
    pointers, place = [], at
    for arg in argv:
        pointers.append(place)
        place += len(arg) + 1
    words = [len(argv), *pointers, 0, 0, 0, 0]
    esp = (at - 4 * len(words)) & -16
    machine.mem_write(at, strings)
    machine.mem_write(esp, struct.pack(f"<{len(words)}I", *words))
    return esp
