"""`aiopyvm disasm` and `aiopyvm asm`."""

from __future__ import annotations

import os
import sys
from typing import Any

from aiopyvm import assemble


def disasm_command(arguments: Any) -> int:
    """Print address, bytes and text of each instruction. Raises OSError, ValueError, LoadError."""
    code, start = _code_of(arguments.file)
    names = _names(code)
    if arguments.address is not None:
        if code.startswith(b"\x7fELF"):
            code = _elf_bytes(code, arguments.address)
        start = arguments.address
    elif code.startswith(b"\x7fELF"):
        code, start = _elf_code(code)
    if arguments.length is not None:
        code = code[: arguments.length]
    _print_lines(code, start, names)
    return 0


def _names(data: bytes) -> dict[int, str]:
    """Return the symbols of an ELF program by address; nothing for other code."""
    if not data.startswith(b"\x7fELF"):
        return {}
    from aiopyvm.loader.elf import parse_elf

    return {address: name for name, address in parse_elf(data).symbols.items()}


def _print_lines(code: bytes, start: int, names: dict[int, str]) -> None:
    from aiopyvm.isa.disasm import iter_disassemble

    for line in iter_disassemble(code, start):
        if line.address in names:
            print(f"{names[line.address]}:")
        print(f"{line.address:08x}  {line.code.hex(' '):<32}  {line.text}")


def _code_of(text: str) -> tuple[bytes, int]:
    if text == "-":
        return sys.stdin.buffer.read(), 0
    if not os.path.exists(text):
        try:
            return bytes.fromhex(text), 0
        except ValueError:
            raise FileNotFoundError(2, "no such file, and no hex digits", text) from None
    with open(text, "rb") as file:
        return file.read(), 0


def _elf_code(data: bytes) -> tuple[bytes, int]:
    """Return the executable part that holds the entry point, from there on, and its address."""
    from aiopyvm.loader.elf import parse_elf

    image = parse_elf(data)
    return _elf_bytes(data, image.entry), image.entry


def _elf_bytes(data: bytes, address: int) -> bytes:
    from aiopyvm.loader.elf import parse_elf

    for segment in parse_elf(data).segments:
        if segment.vaddr <= address < segment.vaddr + segment.filesz:
            start = segment.offset + address - segment.vaddr
            return data[start : segment.offset + segment.filesz]
    raise ValueError(f"the program has nothing at {address:#x}")


def asm_command(arguments: Any) -> int:
    """Write the machine code of some text. Raises AssemblyError, OSError."""
    text = sys.stdin.read() if arguments.text == "-" else arguments.text
    code = assemble(text, arguments.address)
    data = (code.hex() + "\n").encode() if arguments.hex or (arguments.output is None and sys.stdout.isatty()) else code
    if arguments.output is not None:
        with open(arguments.output, "wb") as file:
            file.write(data)
    else:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    return 0
