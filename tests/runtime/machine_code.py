"""Small programs as machine code, for tests of time, signals and waiting."""

from __future__ import annotations

from aiopyvm import assemble

SYSCALLS = {
    "exit": 1, "fork": 2, "read": 3, "write": 4, "waitpid": 7, "time": 13, "getpid": 20, "alarm": 27, "pause": 29,
    "pipe": 42, "signal": 48, "nanosleep": 162, "clock_gettime": 265,
}  # fmt: skip


def call(name: str, ebx: int = 0, ecx: int = 0, edx: int = 0) -> str:
    """The text of a system call with constant arguments."""
    return f"mov eax, {SYSCALLS[name]}; mov ebx, {ebx}; mov ecx, {ecx}; mov edx, {edx}; int 0x80; "


def program(text: str) -> bytes:
    """Machine code for address 0, room for data up to 0x1000 behind it."""
    code = assemble(text)
    return code + bytes(0x1000 - len(code))


def sleeper(ns: int, status: int = 0) -> bytes:
    """A program that sleeps and exits."""
    seconds, rest = divmod(ns, 10**9)
    at = 0x800
    return program(
        f"mov dword ptr [{at}], {seconds}; mov dword ptr [{at + 4}], {rest}; "
        + call("nanosleep", at)
        + call("exit", status)
    )


def exit_after(text: str) -> bytes:
    """`text`, then exit with EAX as the status."""
    return program(text + "mov ebx, eax; mov eax, 1; int 0x80; ")
