"""What strace says beside system calls: signals that are delivered, and how a process ended."""

from __future__ import annotations

from typing import Final

from aiopyvm.abi import signal as abi
from aiopyvm.abi.signal import SigInfo, signal_name

_ANY: Final = {
    abi.SI_USER: "SI_USER", abi.SI_KERNEL: "SI_KERNEL", abi.SI_QUEUE: "SI_QUEUE", abi.SI_TIMER: "SI_TIMER",
    abi.SI_TKILL: "SI_TKILL",
}  # fmt: skip
_PREFIXES: Final = {
    abi.SIGILL: "ILL_", abi.SIGFPE: "FPE_", abi.SIGSEGV: "SEGV_", abi.SIGBUS: "BUS_", abi.SIGTRAP: "TRAP_",
    abi.SIGCHLD: "CLD_",
}  # fmt: skip
_CODES: Final = {
    (prefix, value): name
    for name, value in vars(abi).items()
    for prefix in _PREFIXES.values()
    if name.startswith(prefix) and isinstance(value, int)
}


def signal_text(info: SigInfo) -> str:
    """The line for a signal that is delivered."""
    fields = [f"si_signo={signal_name(info.signo)}", f"si_code={_code(info)}"]
    if info.signo == abi.SIGCHLD and info.code > 0 and info.code != abi.SI_KERNEL:
        status = str(info.status) if info.code == abi.CLD_EXITED else signal_name(info.status)
        fields += [f"si_pid={info.pid}", f"si_uid={info.uid}", f"si_status={status}"]
        fields += [f"si_utime={info.utime}", f"si_stime={info.stime}"]
    elif info.code in (abi.SI_USER, abi.SI_TKILL, abi.SI_QUEUE):
        fields += [f"si_pid={info.pid}", f"si_uid={info.uid}"]
        if info.code == abi.SI_QUEUE:
            fields.append(f"si_int={info.value}, si_ptr={info.value:#x}")
    elif info.signo in _PREFIXES and info.code != abi.SI_KERNEL:
        fields.append(f"si_addr={info.address:#x}" if info.address else "si_addr=NULL")
    return f"--- {signal_name(info.signo)} {{{', '.join(fields)}}} ---"


def _code(info: SigInfo) -> str:
    name = _CODES.get((_PREFIXES.get(info.signo, ""), info.code))
    return name or _ANY.get(info.code) or str(info.code)


def end_text(status: int) -> str:
    """The line for a process that has ended with wait(2)'s `status`."""
    if status & 0x7F:
        return f"+++ killed by {signal_name(status & 0x7F)}{' (core dumped)' if status & 0x80 else ''} +++"
    return f"+++ exited with {status >> 8 & 0xFF} +++"
