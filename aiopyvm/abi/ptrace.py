"""Numbers of ptrace(2), and the structures of i386 that it moves (sys/user.h, linux/ptrace.h); data only."""

from __future__ import annotations

import struct
from typing import Final

TRACEME, PEEKTEXT, PEEKDATA, PEEKUSER, POKETEXT, POKEDATA, POKEUSER, CONT, KILL, SINGLESTEP = range(10)
GETREGS, SETREGS, GETFPREGS, SETFPREGS, ATTACH, DETACH, GETFPXREGS, SETFPXREGS = range(12, 20)
SYSCALL, GET_THREAD_AREA, SET_THREAD_AREA = 24, 25, 26
SYSEMU, SYSEMU_SINGLESTEP = 31, 32
(
    SETOPTIONS, GETEVENTMSG, GETSIGINFO, SETSIGINFO, GETREGSET, SETREGSET, SEIZE, INTERRUPT, LISTEN, PEEKSIGINFO,
    GETSIGMASK, SETSIGMASK,
) = range(0x4200, 0x420C)  # fmt: skip
GET_SYSCALL_INFO: Final = 0x420E

_NAMES: Final = (
    "TRACEME PEEKTEXT PEEKDATA PEEKUSER POKETEXT POKEDATA POKEUSER CONT KILL SINGLESTEP GETREGS SETREGS GETFPREGS "
    "SETFPREGS ATTACH DETACH GETFPXREGS SETFPXREGS SYSCALL GET_THREAD_AREA SET_THREAD_AREA SYSEMU SYSEMU_SINGLESTEP "
    "SETOPTIONS GETEVENTMSG GETSIGINFO SETSIGINFO GETREGSET SETREGSET SEIZE INTERRUPT LISTEN PEEKSIGINFO GETSIGMASK "
    "SETSIGMASK GET_SYSCALL_INFO"
)
NAMES: Final[dict[int, str]] = {globals()[name]: f"PTRACE_{name}" for name in _NAMES.split()}

EVENT_FORK, EVENT_VFORK, EVENT_CLONE, EVENT_EXEC, EVENT_VFORK_DONE, EVENT_EXIT = range(1, 7)
EVENT_STOP: Final = 128

O_TRACESYSGOOD: Final = 1
O_EXITKILL: Final = 1 << 20
O_KNOWN: Final = 0xFF | O_EXITKILL | 1 << 21  # with TRACESECCOMP and SUSPEND_SECCOMP

SYSGOOD: Final = 0x80
AUDIT_ARCH_I386: Final = 0x40000003
NT_PRSTATUS, NT_PRFPREG, NT_PRPSINFO, NT_AUXV = 1, 2, 3, 6
NT_PRXFPREG, NT_386_TLS, NT_X86_XSTATE = 0x46E62B7F, 0x200, 0x202
NT_SIGINFO, NT_FILE = 0x53494749, 0x46494C45

# struct user_regs_struct: the order of its words
REGISTERS: Final = (
    "ebx", "ecx", "edx", "esi", "edi", "ebp", "eax", "ds", "es", "fs", "gs", "orig_eax", "eip", "cs", "eflags", "esp",
    "ss",
)  # fmt: skip
REGS: Final = struct.Struct("<17I")
USER_SIZE: Final = 284  # struct user
USER_DEBUGREG: Final = 252  # u_debugreg[8] in it
IOVEC: Final = struct.Struct("<II")
PEEK_ARGUMENTS: Final = struct.Struct("<QIi")  # struct ptrace_peeksiginfo_args: offset, flags, number
PEEK_SHARED: Final = 1
SYSCALL_INFO: Final = struct.Struct("<B3xIQQ")
ENTRY_INFO: Final = struct.Struct("<7Q")
EXIT_INFO: Final = struct.Struct("<qB")
INFO_NONE, INFO_ENTRY, INFO_EXIT = range(3)
SIGINFO_BYTES: Final = 128
