"""Signals of Linux i386: numbers, actions, codes and structures (signal(7), sigaction(2))."""

import struct
from typing import Any, Final, NamedTuple

from aiopyvm.abi.layout import layout

NSIG: Final = 64
SIGHUP: Final = 1
SIGINT: Final = 2
SIGQUIT: Final = 3
SIGILL: Final = 4
SIGTRAP: Final = 5
SIGABRT: Final = 6
SIGBUS: Final = 7
SIGFPE: Final = 8
SIGKILL: Final = 9
SIGUSR1: Final = 10
SIGSEGV: Final = 11
SIGUSR2: Final = 12
SIGPIPE: Final = 13
SIGALRM: Final = 14
SIGTERM: Final = 15
SIGSTKFLT: Final = 16
SIGCHLD: Final = 17
SIGCONT: Final = 18
SIGSTOP: Final = 19
SIGTSTP: Final = 20
SIGTTIN: Final = 21
SIGTTOU: Final = 22
SIGURG: Final = 23
SIGXCPU: Final = 24
SIGXFSZ: Final = 25
SIGVTALRM: Final = 26
SIGPROF: Final = 27
SIGWINCH: Final = 28
SIGIO: Final = 29
SIGPWR: Final = 30
SIGSYS: Final = 31
SIGRTMIN: Final = 32  # the kernel's; libraries keep the first few

NAMES: Final[dict[int, str]] = {
    value: name for name, value in list(globals().items()) if name.startswith("SIG") and value < SIGRTMIN
}


def signal_name(signo: int) -> str:
    """Return strace's name of a signal: "SIGTERM", "SIGRT_3", or the number."""
    if signo in NAMES:
        return NAMES[signo]
    return f"SIGRT_{signo - SIGRTMIN}" if SIGRTMIN <= signo <= NSIG else str(signo)


def bit(signo: int) -> int:
    """Return the bit of `signo` in a signal set held as an integer."""
    return 1 << (signo - 1)


def bits(*signals: int) -> int:
    """Return the set of `signals` as an integer."""
    return sum(1 << (signo - 1) for signo in signals)


OWN_CODES: Final = bits(SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV, SIGCHLD, SIGIO, SIGSYS)  # their si_code is special
UNBLOCKABLE: Final = bits(SIGKILL, SIGSTOP)
SYNCHRONOUS: Final = bits(SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE, SIGSYS)  # delivered before all others
IGNORED_BY_DEFAULT: Final = bits(SIGCONT, SIGCHLD, SIGWINCH, SIGURG)
DUMPS: Final = bits(SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGXCPU, SIGXFSZ, SIGSYS)
CORE_DUMPED: Final = 0x80  # of wait(2)'s status
STOPS: Final = bits(SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU)
ALL: Final = (1 << NSIG) - 1

SIG_DFL: Final = 0
SIG_IGN: Final = 1
SIG_BLOCK: Final = 0
SIG_UNBLOCK: Final = 1
SIG_SETMASK: Final = 2

SA_NOCLDSTOP: Final = 0x00000001
SA_NOCLDWAIT: Final = 0x00000002
SA_SIGINFO: Final = 0x00000004
SA_UNSUPPORTED: Final = 0x00000400
SA_EXPOSE_TAGBITS: Final = 0x00000800
SA_RESTORER: Final = 0x04000000
SA_ONSTACK: Final = 0x08000000
SA_RESTART: Final = 0x10000000
SA_NODEFER: Final = 0x40000000
SA_RESETHAND: Final = 0x80000000
SA_KNOWN: Final = (
    SA_NOCLDSTOP | SA_NOCLDWAIT | SA_SIGINFO | SA_RESTORER | SA_ONSTACK | SA_RESTART | SA_NODEFER | SA_RESETHAND
    | SA_EXPOSE_TAGBITS
)  # fmt: skip

SS_ONSTACK: Final = 1
SS_DISABLE: Final = 2
SS_AUTODISARM: Final = 0x80000000
MINSIGSTKSZ: Final = 2048

# si_code (siginfo.h)
SI_USER: Final = 0
SI_KERNEL: Final = 0x80
SI_QUEUE: Final = -1
SI_TIMER: Final = -2
SI_MESGQ: Final = -3
SI_SIGIO: Final = -5
SI_TKILL: Final = -6
ILL_ILLOPN: Final = 2
FPE_INTDIV: Final = 1
FPE_FLTDIV: Final = 3
FPE_FLTOVF: Final = 4
FPE_FLTUND: Final = 5
FPE_FLTRES: Final = 6
FPE_FLTINV: Final = 7
SEGV_MAPERR: Final = 1
SEGV_ACCERR: Final = 2
BUS_ADRALN: Final = 1
BUS_ADRERR: Final = 2
TRAP_BRKPT: Final = 1
TRAP_TRACE: Final = 2
TRAP_HWBKPT: Final = 4
CLD_EXITED: Final = 1
CLD_KILLED: Final = 2
CLD_DUMPED: Final = 3
CLD_STOPPED: Final = 5
CLD_CONTINUED: Final = 6
POLL_IN: Final = 1
POLL_OUT: Final = 2
POLL_MSG: Final = 3
POLL_ERR: Final = 4
POLL_PRI: Final = 5
POLL_HUP: Final = 6


@layout("<IIIQ")
class KernelSigaction(NamedTuple):
    """struct kernel_sigaction, as rt_sigaction(2) takes it."""

    handler: int
    flags: int
    restorer: int
    mask: int


@layout("<IIII")
class OldSigaction(NamedTuple):
    """struct old_sigaction, as sigaction (67) takes it."""

    handler: int
    mask: int
    flags: int
    restorer: int


@layout("<Q")
class Sigset(NamedTuple):
    """sigset_t of the kernel: bit n - 1 is signal n."""

    bits: int


@layout("<I")
class OldSigset(NamedTuple):
    """old_sigset_t: signals 1 to 32."""

    bits: int


@layout("<III")
class SigStack(NamedTuple):
    """stack_t (sigaltstack(2))."""

    sp: int
    flags: int
    size: int


@layout("<iii116s")
class SiginfoBytes(NamedTuple):
    """siginfo_t: 128 bytes; `fields` is the union, see `SigInfo`."""

    signo: int
    errno: int
    code: int
    fields: bytes


class SigInfo(NamedTuple):
    """What came with a signal: siginfo_t with its union's fields spread out (sigaction(2))."""

    signo: int
    code: int = SI_USER
    pid: int = 0
    uid: int = 0
    address: int = 0  # of a fault
    status: int = 0  # of a child
    utime: int = 0
    stime: int = 0
    value: int = 0  # sigval_t
    raw: bytes | None = None  # the union, as rt_sigqueueinfo(2) gave it
    timer: Any = None  # the kernel's: the timer that sent it, and which setting of it
    setting: int = 0

    @property
    def polled(self) -> bool:
        """Whether it tells of a descriptor (siginfo's si_band and si_fd)."""
        own = self.signo != SIGIO and OWN_CODES & bit(self.signo)
        return self.code == SI_SIGIO or (not own and POLL_IN <= self.code <= POLL_HUP)

    def union(self) -> bytes:
        """Return the bytes of the union, 116 of them, as the kind of signal lays them out."""
        if self.raw is not None:
            return self.raw
        if self.code in (SI_USER, SI_TKILL):
            head = struct.pack("<II", self.pid, self.uid)
        elif self.code < 0:
            head = struct.pack("<III", self.pid, self.uid, self.value)
        elif self.signo == SIGCHLD and self.code != SI_KERNEL:
            head = struct.pack("<IIiII", self.pid, self.uid, self.status, self.utime, self.stime)
        else:
            head = struct.pack("<I", self.address)
        return head.ljust(116, b"\0")

    def pack(self) -> bytes:
        """Return the siginfo_t, 128 bytes."""
        return struct.pack("<iii", self.signo, 0, self.code) + self.union()


def signalfd_info(info: SigInfo) -> bytes:
    """Return the struct signalfd_siginfo of a signal, 128 bytes (signalfd(2))."""
    union = info.union()
    first, second, third, fourth, fifth = struct.unpack_from("<IIiII", union)
    pid = uid = tid = overrun = value = status = utime = stime = address = fd = band = 0
    if info.polled:
        band, fd = first, second
    elif info.code == SI_TIMER:
        tid, overrun, value = first, second, third
    elif info.signo == SIGCHLD and info.code > 0 and info.code != SI_KERNEL:
        pid, uid, status, utime, stime = first, second, third, fourth, fifth
    elif info.code <= 0 and info.code not in (SI_USER, SI_TKILL):
        pid, uid, value = first, second, third
    elif info.code in (SI_USER, SI_TKILL):
        pid, uid = first, second
    elif info.code != SI_KERNEL:
        address = first
    head = struct.pack("<IiiIIiIIIIii", info.signo, 0, info.code, pid, uid, fd, tid, band, overrun, 0, status, value)
    return (head + struct.pack("<QQQQ", value & 0xFFFFFFFF, utime, stime, address)).ljust(128, b"\0")
