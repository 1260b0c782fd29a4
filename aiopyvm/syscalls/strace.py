"""Strace text, derived from the same annotations as argument decoding, in strace's own format.

    openat(AT_FDCWD, "/etc/passwd", O_RDONLY) = -1 ENOENT (No such file or directory)

What a call takes is shown as it was when the call began, what it gives as it is at the end.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from aiopyvm.abi import errno, numbers
from aiopyvm.abi.errno import Errno
from aiopyvm.abi.fcntl import AT_FDCWD
from aiopyvm.abi.layout import Codec
from aiopyvm.abi.signal import SA_RESTORER, KernelSigaction, OldSigaction, OldSigset, Sigset, signal_name
from aiopyvm.kernel.process import Process
from aiopyvm.kernel.thread import Thread
from aiopyvm.kernel.wait import Call
from aiopyvm.mem.faults import MemoryFault
from aiopyvm.syscalls import spec, straceforms
from aiopyvm.syscalls.spec import Kind, Syscall
from aiopyvm.syscalls.stracetext import SHOWN_BYTES, SHOWN_ITEMS, quoted

RESULT_COLUMN: Final = 40  # strace -a 40
ENDINGS: Final = frozenset({"exit", "exit_group"})

_SA_NAMES: Final = {
    0x04000000: "SA_RESTORER", 0x08000000: "SA_ONSTACK", 0x10000000: "SA_RESTART", 0x20000000: "SA_INTERRUPT",
    0x40000000: "SA_NODEFER", 0x80000000: "SA_RESETHAND", 1: "SA_NOCLDSTOP", 2: "SA_NOCLDWAIT", 4: "SA_SIGINFO",
}  # fmt: skip

Show = Callable[[Thread, Any, Call, int, "int | None"], str]  # thread, kind, call, index of the argument, result


def entry(t: Thread, call: Call, row: Syscall) -> list[str | None]:
    """Show the arguments that `call` takes, before it begins; None for those that it will give."""
    if row.name == "socketcall" and (direct := _direct(t, call)) is not None:
        _, _, other, other_row = call.state["strace as"] = direct
        return entry(t, other, other_row)
    forms = _before(t, call, row)
    return [
        forms[n] if n in forms else None if _is_output(kind) else _show(t, call, row, n, kind, None)
        for n, kind in enumerate(row.kinds)
    ]


def _direct(t: Thread, call: Call) -> tuple[str, int, Call, Syscall] | None:
    """The direct call that a socketcall does: the name, and how many arguments are shown of the call."""
    from aiopyvm.syscalls.socketcall import direct_call

    try:
        direct = direct_call(t, *call.args[:2])
        if direct is None:
            return None
        name, count, row, args = direct
        other = Call(row.number, (*args, 0, 0, 0, 0, 0, 0)[:6], name)
        other.values = row.decode(t, other.args)
    except (Errno, MemoryFault):
        return None
    return name, count, other, row


def _before(t: Thread, call: Call, row: Syscall) -> dict[int, str]:
    form = straceforms.BEFORE.get(row.name)
    if form is None:
        return {}
    try:
        return form(t, call)
    except MemoryFault:
        return {}


def line(t: Thread, call: Call, row: Syscall, result: int | None) -> str:
    """Return the whole line of a call that ended; `result` None says that it will be restarted."""
    name, most, shown = row.name, None, call.state.get("strace")
    if "strace as" in call.state and shown is not None:
        name, most, call, row = call.state["strace as"]
    if shown is None:  # the arguments could not be decoded
        arguments = [hex(word) for word in call.args[: sum(kind.slots for kind in row.kinds)]]
        return aligned(row.name, arguments, _result(row, result))
    arguments = _arguments(t, call, row, shown, result)
    behind, failed = "", result is None or result > 0xFFFFF000 or result < 0
    try:
        arrange = straceforms.AFTER.get(row.name)
        if arrange is not None:
            arguments = arrange(t, call, arguments, -1 if failed or result is None else result)
        if not failed and result is not None and row.name in straceforms.BEHIND:
            behind = straceforms.BEHIND[row.name](t, call, result)
    except MemoryFault:
        pass  # another thread has unmapped it: what is shown already must do
    return aligned(name, arguments[:most], behind or _result(row, result))


def _arguments(t: Thread, call: Call, row: Syscall, shown: Sequence[str | None], result: int | None) -> list[str]:
    return [text if text is not None else _show(t, call, row, n, row.kinds[n], result) for n, text in enumerate(shown)]


def aligned(name: str, arguments: Sequence[str], result: str) -> str:
    """A line whose result stands in column 40, where there is room."""
    return f"{name + '(' + ', '.join(arguments) + ')':<{RESULT_COLUMN - 1}} = {result}"


def ending(call: Call, row: Syscall) -> str:
    """Return the line of a call that does not return; it is shown when it begins."""
    return aligned(row.name, [text or "" for text in call.state["strace"]], "?")


def unknown(number: int, args: tuple[int, ...]) -> str:
    """Return the line of a call that the table does not have."""
    name = numbers.NAMES.get(number, f"syscall_{number:#x}")
    return aligned(name, [hex(word) for word in args], _error(errno.ENOSYS))


def first_line(process: Process) -> str:
    """The line for the execve(2) that made the first process what it is."""
    words = ", ".join(map(quoted, process.arguments.split(b"\0")[:-1]))
    count, main = process.environment.count(b"\0"), process.main
    where = main.core.cpu.esp if main is not None else 0
    environment = f"{where:#x} /* {count} var{'s' if count != 1 else ''} */"
    return aligned("execve", [quoted(process.exe, limit=spec.PATH_MAX), f"[{words}]", environment], "0")


def flags_text(names: Mapping[int, str], value: int, zero: str = "0") -> str:
    """Return the names of the bits of `value`, joined by |, the rest in hexadecimal."""
    if not value:
        return names.get(0, zero)
    parts: list[str] = []
    for bits, name in sorted(names.items(), reverse=True):
        if bits and value & bits == bits:
            parts.insert(0, name)
            value &= ~bits
    if value:
        parts.append(hex(value))
    return "|".join(parts)


def sigset_text(bits: int) -> str:
    """Return a signal set as strace does: [INT TERM], or ~[...] when more than half are in it."""
    names = [signal_name(n + 1).removeprefix("SIG") for n in range(64) if bits >> n & 1]
    if len(names) > 32:
        missing = [signal_name(n + 1).removeprefix("SIG") for n in range(64) if not bits >> n & 1]
        return f"~[{' '.join(missing)}]"
    return f"[{' '.join(names)}]"


def _result(row: Syscall, result: int | None) -> str:
    if result is None:
        return "? ERESTARTSYS (To be restarted if SA_RESTART is set)"
    if -4096 < result < 0:
        return _error(-result)
    if result > 0x7FFFFFFF and not row.hex_result:
        result -= 1 << 32
    return hex(result) if row.hex_result and result else str(result)


def _error(number: int) -> str:
    return f"-1 {errno.NAMES.get(number, f'errno {number}')} ({os.strerror(number)})"


def _is_output(kind: Kind) -> bool:
    if isinstance(kind, spec.Reference):
        return kind.wrapper is not spec.In and kind.wrapper is not spec.Array
    return isinstance(kind, spec.BufferOut) or (isinstance(kind, spec.IovecKind) and kind.out)


def _show(t: Thread, call: Call, row: Syscall, n: int, kind: Kind, result: int | None) -> str:
    assert call.values is not None
    try:
        return _SHOWERS[type(kind)](t, kind, call, n, result)
    except MemoryFault:
        value = call.values[n]
        return hex(getattr(value, "address", value))


def _value(call: Call, n: int) -> Any:
    assert call.values is not None
    return call.values[n]


def _show_unsigned(t: Thread, kind: Any, call: Call, n: int, result: int | None) -> str:
    value = _value(call, n)
    if kind.style == "o":
        return f"0{value:o}" if value else "000"
    return format(value, "#x") if kind.style == "x" and value else str(value)


def _show_pointer(t: Thread, kind: Any, call: Call, n: int, result: int | None) -> str:
    return hex(_value(call, n)) if _value(call, n) else "NULL"


def _show_number(t: Thread, kind: Any, call: Call, n: int, result: int | None) -> str:
    return str(_value(call, n))


def _show_fd(t: Thread, kind: Any, call: Call, n: int, result: int | None) -> str:
    value = _value(call, n)
    return "AT_FDCWD" if kind.at and value == AT_FDCWD else str(value)


def _show_signal(t: Thread, kind: Any, call: Call, n: int, result: int | None) -> str:
    return signal_name(_value(call, n))


def _show_flags(t: Thread, kind: Any, call: Call, n: int, result: int | None) -> str:
    value = _value(call, n)
    text = flags_text(kind.names, value, kind.zero)
    return f"{kind.names.get(0, kind.zero)}|{text}" if kind.field and value and not value & kind.field else text


def _show_choice(t: Thread, kind: Any, call: Call, n: int, result: int | None) -> str:
    value = _value(call, n)
    return kind.names.get(value) or hex(value & 0xFFFFFFFF)


def _show_socket_type(t: Thread, kind: Any, call: Call, n: int, result: int | None) -> str:
    from aiopyvm.abi import socket as abi

    value = _value(call, n)
    flags = {abi.SOCK_NONBLOCK: "SOCK_NONBLOCK", abi.SOCK_CLOEXEC: "SOCK_CLOEXEC"}
    parts = [abi.TYPES.get(value & abi.SOCK_TYPE_MASK, hex(value & abi.SOCK_TYPE_MASK))]
    if value & ~abi.SOCK_TYPE_MASK:
        parts.append(flags_text(flags, value & 0xFFFFFFFF & ~abi.SOCK_TYPE_MASK))
    return "|".join(parts)


def _show_path(t: Thread, kind: Any, call: Call, n: int, result: int | None) -> str:
    value = _value(call, n)
    if value is None:
        return "NULL"
    return quoted(value, limit=spec.PATH_MAX)


def _show_buffer_in(t: Thread, kind: Any, call: Call, n: int, result: int | None) -> str:
    address = _value(call, n)
    if not address:
        return "NULL"
    size = call.args[_register(call, n) + 1]
    return quoted(t.memory.read(address, min(size, SHOWN_BYTES)), cut=size > SHOWN_BYTES)


def _show_buffer_out(t: Thread, kind: Any, call: Call, n: int, result: int | None) -> str:
    address = _value(call, n)
    if not address or result is None or result < 0:
        return hex(address) if address else "NULL"
    there = min(result, call.args[_register(call, n) + 1])  # recv(2) with MSG_TRUNC tells of more than it stored
    return quoted(t.memory.read(address, min(there, SHOWN_BYTES)), cut=there > SHOWN_BYTES)


def _show_strings(t: Thread, kind: Any, call: Call, n: int, result: int | None) -> str:
    address = _value(call, n)
    if not address:
        return "NULL"
    shown: list[str] = []
    for i in range(SHOWN_ITEMS):
        pointer = t.memory.load(address + 4 * i, 4)
        if not pointer:
            return f"[{', '.join(shown)}]"
        shown.append(quoted(t.memory.read_cstr(pointer, SHOWN_BYTES + 1)))
    return f"[{', '.join(shown)}, ...]"


def _show_reference(t: Thread, kind: Any, call: Call, n: int, result: int | None) -> str:
    reference = _value(call, n)
    if not reference:
        return "NULL"
    failed = result is not None and result < 0
    if failed and kind.wrapper is not spec.In:
        return hex(reference.address)
    if kind.wrapper is spec.Array:
        count = min(call.args[_register(call, n) + 1], SHOWN_ITEMS)
        data = t.memory.read(reference.address, count * kind.codec.size)
        return f"[{', '.join(_structure(kind.codec, item) for item in kind.codec.unpack_all(data))}]"
    return _structure(kind.codec, kind.codec.unpack(t.memory.read(reference.address, kind.codec.size)))


def _show_iovec(t: Thread, kind: Any, call: Call, n: int, result: int | None) -> str:
    vector = _value(call, n)
    if not 0 <= vector.count <= spec.IOV_MAX:
        return f"{vector.address:#x}, {vector.count}"
    left = result if kind.out and result is not None and result >= 0 else 1 << 32
    if kind.out and result is not None and result < 0:
        return f"{vector.address:#x}, {vector.count}"
    shown = []
    for base, size in vector.get()[:SHOWN_ITEMS]:
        there = min(size, left)
        left -= there
        shown.append(f"{{iov_base={quoted(t.memory.read(base, min(there, SHOWN_BYTES)), cut=there > SHOWN_BYTES)}, "
                     f"iov_len={size}}}")  # fmt: skip
    return f"[{', '.join(shown)}], {vector.count}"


def _structure(codec: Codec[Any], value: Any) -> str:
    """Show a structure: {field=value, ...}; what has a customary form of its own, in that."""
    if codec.scalar:
        return f"[{value}]"
    if isinstance(value, (Sigset, OldSigset)):
        return sigset_text(value.bits)
    if isinstance(value, (KernelSigaction, OldSigaction)):
        handler = {0: "SIG_DFL", 1: "SIG_IGN"}.get(value.handler) or hex(value.handler)
        flags = flags_text(_SA_NAMES, value.flags)
        restorer = f", sa_restorer={value.restorer:#x}" if value.flags & SA_RESTORER else ""
        return f"{{sa_handler={handler}, sa_mask={sigset_text(value.mask)}, sa_flags={flags}{restorer}}}"
    return "{" + ", ".join(f"{name}={_field(item)}" for name, item in value._asdict().items()) + "}"


def _field(item: Any) -> str:
    return quoted(item.rstrip(b"\0")) if isinstance(item, bytes) else str(item)


def _register(call: Call, n: int) -> int:
    """Return the register index of argument `n`."""
    return sum(kind.slots for kind in spec.TABLE[call.number].kinds[:n])


_SHOWERS: Final[dict[type[Kind], Show]] = {
    spec.Unsigned: _show_unsigned,
    spec.Pointer: _show_pointer,
    spec.Signed: _show_number,
    spec.Wide: _show_number,
    spec.FdKind: _show_fd,
    spec.SignalKind: _show_signal,
    spec.Flags: _show_flags,
    spec.Choice: _show_choice,
    spec.SocketType: _show_socket_type,
    spec.PathKind: _show_path,
    spec.BufferIn: _show_buffer_in,
    spec.BufferOut: _show_buffer_out,
    spec.StringVector: _show_strings,
    spec.Reference: _show_reference,
    spec.IovecKind: _show_iovec,
}
