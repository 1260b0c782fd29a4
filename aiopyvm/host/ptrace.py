"""A process of this host that is stepped instruction by instruction: ptrace(2) on x86-64 Linux.

How it works. The process is a program of a few bytes far above 4 GiB, so that a guest's whole 32-bit address space is
free in it; with CS = USER_CS it executes 32-bit code there. System calls of that code stop it and are never executed
(PTRACE_SYSEMU_SINGLESTEP); `call` lets it execute one of our choice. It is killed when the tracer ends. All methods are
called on the thread that made it.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import struct
import sys
from typing import Final, Literal

from aiopyvm.errors import EngineUnavailableError, HostRefusedError

NAMES: Final = (
    "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax"
    " rip cs eflags rsp ss fs_base gs_base ds es fs gs"
).split()  # struct user_regs_struct of sys/user.h
INDEX: Final = {name: n for n, name in enumerate(NAMES)}
FP_BYTES: Final = 512  # struct user_fpregs_struct: an FXSAVE image
SYSCALL_STOP: Final = signal.SIGTRAP | 0x80

_STUB_AT: Final = 0x6000_0000_0000
_CODE: Final = bytes.fromhex("b822000000 0f05 ebf7 90909090909090 0f05 cc".replace(" ", ""))  # pause for ever; syscall
_CALL_AT: Final = 16  # of the second SYSCALL
_HEADER: Final = 64 + 2 * 56
_CS64: Final = 0x33
_NO_CALL: Final = (1 << 64) - 1
_TF: Final = 1 << 8

_SINGLESTEP: Final = 9
_GETREGS, _SETREGS, _GETFPREGS, _SETFPREGS = 12, 13, 14, 15
_SET_THREAD_AREA: Final = 26
_SYSEMU_SINGLESTEP: Final = 32
_GETSIGINFO: Final = 0x4202
_SEIZE, _INTERRUPT = 0x4206, 0x4207
_TRACESYSGOOD, _EXITKILL = 1, 1 << 20
_WALL: Final = 0x40000000


def unavailable() -> str | None:
    """Why there can be no tracee on this host; None where it may be tried."""
    if sys.platform != "linux" or platform.machine() != "x86_64" or sys.maxsize < 1 << 32:
        return "stepping the hardware needs x86-64 Linux"
    return None


class Tracee:
    """A stopped process with 4 GiB of empty address space. Raises EngineUnavailableError where it cannot be had."""

    def __init__(self) -> None:
        reason = unavailable()
        if reason is not None:
            raise EngineUnavailableError(reason)
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
        self._libc.ptrace.restype = ctypes.c_long
        blocks = (ctypes.c_void_p, ctypes.c_ulong)
        self._libc.process_vm_readv.argtypes = (ctypes.c_int, *blocks, *blocks, ctypes.c_ulong)
        self._libc.process_vm_readv.restype = ctypes.c_ssize_t
        self._words = (ctypes.c_uint64 * len(NAMES))()
        self._fp = ctypes.create_string_buffer(FP_BYTES)
        self._info = ctypes.create_string_buffer(128)
        self._memory = -1
        self.pid = 0
        try:
            self.pid = _start()
            self._ptrace(_SEIZE, 0, _TRACESYSGOOD | _EXITKILL)
            self._ptrace(_INTERRUPT)
            self._wait()
            self._memory = os.open(f"/proc/{self.pid}/mem", os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            self.close()
            raise EngineUnavailableError(f"this host does not let a process be stepped: {error.strerror}") from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Kill it; once."""
        pid, self.pid = self.pid, 0
        if self._memory >= 0:
            os.close(self._memory)
            self._memory = -1
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, _WALL)

    # --- registers ----------------------------------------------------------------------------------------------------

    def registers(self) -> list[int]:
        """Return the registers, in the order of NAMES."""
        self._ptrace(_GETREGS, 0, ctypes.addressof(self._words))
        return list(struct.unpack_from("<27Q", self._words))

    def set_registers(self, values: list[int]) -> None:
        """Set all of them, but TF, which is the stepping's. Raises HostRefusedError for selectors that the host does
        not take."""
        values = values[:]
        values[INDEX["eflags"]] &= ~_TF
        struct.pack_into("<27Q", self._words, 0, *values)
        try:
            self._ptrace(_SETREGS, 0, ctypes.addressof(self._words))
        except OSError as error:
            raise HostRefusedError(error.errno, "the host refuses these registers") from None

    def fp_registers(self) -> bytes:
        """Return the FXSAVE image."""
        self._ptrace(_GETFPREGS, 0, ctypes.addressof(self._fp))
        return self._fp.raw

    def set_fp_registers(self, image: bytes) -> None:
        """Set x87 and SSE registers from an FXSAVE image."""
        self._fp.raw = image
        self._ptrace(_SETFPREGS, 0, ctypes.addressof(self._fp))

    def set_thread_area(self, entry: int, descriptor: bytes) -> None:
        """Set the GDT entry `entry` from a `struct user_desc` (set_thread_area(2)). Raises HostRefusedError."""
        buffer = ctypes.create_string_buffer(descriptor, len(descriptor))
        try:
            self._ptrace(_SET_THREAD_AREA, entry, ctypes.addressof(buffer))
        except OSError as error:
            raise HostRefusedError(error.errno, f"the host refuses the descriptor of entry {entry}") from None

    # --- execution ----------------------------------------------------------------------------------------------------

    def step(self) -> int:
        """Execute one instruction; return the signal that stopped it: SIGTRAP for a step or INT3, SYSCALL_STOP."""
        while True:
            self._ptrace(_SYSEMU_SINGLESTEP)
            stopped = self._wait()
            if stopped not in _FOREIGN:
                return stopped

    def signal_info(self) -> tuple[int, int]:
        """Return si_code and si_addr of the signal that stopped it."""
        self._ptrace(_GETSIGINFO, 0, ctypes.addressof(self._info))
        code, address = struct.unpack_from("<8xi4xQ", self._info)
        return code, address

    def call(self, number: int, *args: int) -> int:
        """Let it execute one 64-bit system call; return the result. Registers are as before then. Raises
        HostRefusedError where it fails."""
        before = self.registers()
        now = before[:]
        now[INDEX["rip"]] = _STUB_AT + _HEADER + _CALL_AT
        now[INDEX["cs"]] = _CS64
        now[INDEX["rax"]] = number
        now[INDEX["orig_rax"]] = _NO_CALL
        for name, value in zip(("rdi", "rsi", "rdx", "r10", "r8", "r9"), args, strict=False):
            now[INDEX[name]] = value & _NO_CALL
        self.set_registers(now)
        self._ptrace(_SINGLESTEP)
        stopped = self._wait()
        result = self.registers()[INDEX["rax"]]
        self.set_registers(before)
        result -= (result >> 63) << 64
        if stopped != signal.SIGTRAP or result < 0:
            raise HostRefusedError(-result, f"{os.strerror(-result)}: the host refuses system call {number}")
        return result

    # --- memory -------------------------------------------------------------------------------------------------------

    def write(self, address: int, data: bytes) -> None:
        """Write, whatever the pages' protection."""
        os.pwrite(self._memory, data, address)

    def read(self, address: int, n: int) -> bytes:
        """Read what is mapped."""
        return os.pread(self._memory, n, address)

    def read_blocks(self, places: Places) -> bytes:
        """Read all of `places` at once."""
        got = self._libc.process_vm_readv(self.pid, places.local, 1, places.remote, places.count, 0)
        if got != len(places.buffer):
            raise HostRefusedError(ctypes.get_errno(), "the stepped process's memory cannot be read")
        return places.buffer.raw

    # --- underneath ---------------------------------------------------------------------------------------------------

    def _ptrace(self, request: int, address: int = 0, data: int = 0) -> None:
        if self._libc.ptrace(request, self.pid, address, data) < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def _wait(self) -> int:
        _, status = os.waitpid(self.pid, _WALL)
        if not os.WIFSTOPPED(status):
            self.pid = 0
            raise HostRefusedError(None, f"the stepped process was ended from outside (status {status:#x})")
        return os.WSTOPSIG(status)


class Places:
    """Several blocks of a tracee's memory, all of one size, to be read together (at most 1024: IOV_MAX)."""

    def __init__(self, addresses: list[int], size: int) -> None:
        self.count = len(addresses)
        self.buffer = ctypes.create_string_buffer(size * self.count)
        self._remote = (ctypes.c_uint64 * (2 * self.count))(*(word for at in addresses for word in (at, size)))
        self._local = (ctypes.c_uint64 * 2)(ctypes.addressof(self.buffer), size * self.count)
        self.remote = ctypes.addressof(self._remote)
        self.local = ctypes.addressof(self._local)


_FOREIGN: Final = frozenset(
    {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCONT, signal.SIGWINCH, signal.SIGTSTP}
)
"""Signals that mean nothing here: somebody sent them to a whole process group."""


def _start() -> int:
    """Start the stub; return its process id. Raises OSError."""
    fd = os.memfd_create("aiopyvm-hardware", os.MFD_CLOEXEC)
    try:
        os.write(fd, _stub())
        actions: list[tuple[Literal[0], int, str, int, int]] = [
            (os.POSIX_SPAWN_OPEN, n, os.devnull, os.O_RDWR, 0) for n in range(3)
        ]
        path = f"/proc/self/fd/{fd}"
        return os.posix_spawn(path, ["aiopyvm-hardware"], {}, file_actions=actions, setpgroup=0)
    finally:
        os.close(fd)


def _stub() -> bytes:
    """An ELF program (elf(5)) that waits; its one segment is at _STUB_AT."""
    size = _HEADER + len(_CODE)
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = ident + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, _STUB_AT + _HEADER, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, _STUB_AT, _STUB_AT, size, size, 0x1000)
    stack = struct.pack("<IIQQQQQQ", 0x6474E551, 6, 0, 0, 0, 0, 0, 16)  # PT_GNU_STACK, not executable
    return header + load + stack + _CODE
