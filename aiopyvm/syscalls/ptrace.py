"""ptrace(2): what a tracer asks of the threads that it traces (kernel/ptrace.py).

What always holds: registers take what Linux lets them (flags and selectors filtered, `kernel/sigframe.py`); memory is
read and written whatever its permissions, as a debugger's.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Annotated, Final

from aiopyvm.abi import ptrace as abi
from aiopyvm.abi.errno import EFAULT, EINVAL, EIO, ENODEV, EPERM, ESRCH, Errno
from aiopyvm.abi.signal import NSIG, SIGKILL, UNBLOCKABLE, SigInfo
from aiopyvm.errors import GuestMemoryError, HostRefusedError
from aiopyvm.isa.debug import COUNT
from aiopyvm.isa.state import AC, AF, CF, DF, FIRST_TLS_ENTRY, OF, PF, SF, TF, ZF
from aiopyvm.kernel import fpu, ptrace, segments
from aiopyvm.kernel.ptrace import Trace
from aiopyvm.kernel.sigframe import has_fxsave, has_xsave
from aiopyvm.kernel.thread import Thread
from aiopyvm.mem.faults import MemoryFault
from aiopyvm.syscalls.spec import Choice, Pid, Ptr, syscall
from aiopyvm.syscalls.threads import set_tls, show_tls

FLAGS: Final = AC | OF | DF | TF | SF | ZF | AF | PF | CF
FSAVE_BYTES: Final = 108
FXSAVE_BYTES: Final = 512
DESCRIPTOR_BYTES: Final = 16  # struct user_desc
PEEKED_AT_ONCE: Final = 1024  # signals of one PEEKSIGINFO
_RESUMES: Final = (abi.CONT, abi.SYSCALL, abi.SINGLESTEP, abi.SYSEMU, abi.SYSEMU_SINGLESTEP)
_WITHOUT_STOP: Final = (abi.KILL, abi.INTERRUPT)
_SELECTORS: Final = ("ds", "es", "fs", "gs")

Request = Annotated[int, Choice(abi.NAMES)]


@syscall(26, "ptrace", man="ptrace(2)")
def ptrace_call(t: Thread, request: Request, pid: Pid, addr: Ptr, data: Ptr) -> int:
    """Trace a thread, or be traced. ESRCH for a thread that is not traced by the caller, or not stopped."""
    if request == abi.TRACEME:
        return _trace_me(t)
    if request in (abi.ATTACH, abi.SEIZE):
        return _attach(t, pid, addr, data, seize=request == abi.SEIZE)
    found, trace = ptrace.tracee(t.process, pid, stopped=request not in _WITHOUT_STOP)
    if request in _RESUMES or request == abi.DETACH:
        return _resume(found, request, data)
    handler = _REQUESTS.get(request)
    if handler is None:
        raise Errno(EIO)
    return handler(t, found, trace, addr, data)


def _trace_me(t: Thread) -> int:
    parent = t.process.parent
    if t.trace is not None or parent is None:
        raise Errno(EPERM)
    ptrace.begin(parent, t)
    return 0


def _attach(t: Thread, pid: int, addr: int, options: int, *, seize: bool) -> int:
    found = t.kernel.threads.get(pid)
    if found is None:
        raise Errno(ESRCH)
    if seize and (addr or options & ~abi.O_KNOWN):
        raise Errno(EIO)
    ptrace.attach(t.process, found, options if seize else 0, seized=seize)
    return 0


def _resume(found: Thread, request: int, data: int) -> int:
    if data > NSIG:
        raise Errno(EIO)
    if request == abi.DETACH:
        ptrace.detach(found, data)
    else:
        ptrace.go_on(found, request, data)
    return 0


def _kill(t: Thread, found: Thread, trace: Trace, addr: int, data: int) -> int:
    t.kernel.send_signal(found, SigInfo(SIGKILL, 0, t.process.pid, t.credentials.uid))
    return 0


def _interrupt(t: Thread, found: Thread, trace: Trace, addr: int, data: int) -> int:
    if not trace.seized:
        raise Errno(EIO)
    ptrace.interrupt(found)
    return 0


def _listen(t: Thread, found: Thread, trace: Trace, addr: int, data: int) -> int:
    if not trace.seized or trace.stop >> 8 != abi.EVENT_STOP:
        raise Errno(EIO)
    trace.listening = True
    trace.unreported = False
    if not found.process.stop_signal:
        ptrace.interrupt(found)
    return 0


def _set_options(t: Thread, found: Thread, trace: Trace, addr: int, data: int) -> int:
    if data & ~abi.O_KNOWN:
        raise Errno(EINVAL)
    trace.options = data
    return 0


def _event_message(t: Thread, found: Thread, trace: Trace, addr: int, data: int) -> int:
    t.memory.store(data, 4, trace.message & 0xFFFFFFFF)
    return 0


# --- memory -----------------------------------------------------------------------------------------------------------


def _peek(t: Thread, found: Thread, trace: Trace, addr: int, data: int) -> int:
    try:
        word = found.memory.peek(addr, 4)
    except GuestMemoryError:
        raise Errno(EIO) from None
    t.memory.write(data, word)
    return 0


def _poke(t: Thread, found: Thread, trace: Trace, addr: int, data: int) -> int:
    try:
        found.memory.poke(addr, struct.pack("<I", data))
    except (GuestMemoryError, HostRefusedError):
        raise Errno(EIO) from None
    return 0


# --- registers --------------------------------------------------------------------------------------------------------


def register(found: Thread, trace: Trace | None, name: str) -> int:
    """One word of struct user_regs_struct."""
    cpu = found.core.cpu
    if name == "orig_eax":
        return (trace.number if trace is not None else ptrace.NONE) & 0xFFFFFFFF
    value: int = getattr(cpu, name)
    return value


def registers(found: Thread, trace: Trace | None) -> bytes:
    """struct user_regs_struct."""
    return abi.REGS.pack(*(register(found, trace, name) for name in abi.REGISTERS))


def _set_register(found: Thread, trace: Trace, name: str, value: int) -> None:
    """Raises Errno(EIO) for a selector that user code cannot have."""
    cpu = found.core.cpu
    if name == "orig_eax":
        trace.number = value
        if value == ptrace.NONE and found.interrupted is not None:
            _forget_call(found)
    elif name == "eflags":
        cpu.eflags = cpu.eflags & ~FLAGS | value & FLAGS
    elif name in _SELECTORS or name in ("cs", "ss"):
        selector = value & 0xFFFF
        if (selector or name in ("cs", "ss")) and selector & 3 != 3:
            raise Errno(EIO)
        if name in _SELECTORS:
            segments.load_data_segment(cpu, name, selector)
        elif not segments.load_code_or_stack(cpu, name, selector):
            raise Errno(EIO)
    else:
        setattr(cpu, name, value)


def _forget_call(found: Thread) -> None:
    """The tracer wants an interrupted call not to be made again: it is over, with what EAX says."""
    found.call = found.interrupted = None


def _set_all(found: Thread, trace: Trace, data: bytes) -> None:
    for name, value in zip(abi.REGISTERS, abi.REGS.unpack(data), strict=True):
        _set_register(found, trace, name, value)


def _get_registers(t: Thread, found: Thread, trace: Trace, addr: int, data: int) -> int:
    t.memory.write(data, registers(found, trace))
    return 0


def _set_registers(t: Thread, found: Thread, trace: Trace, addr: int, data: int) -> int:
    _set_all(found, trace, t.memory.read(data, abi.REGS.size))
    return 0


def _peek_user(t: Thread, found: Thread, trace: Trace, addr: int, data: int) -> int:
    if addr & 3 or addr > abi.USER_SIZE:
        raise Errno(EIO)
    value = 0
    if addr < abi.REGS.size:
        value = register(found, trace, abi.REGISTERS[addr // 4])
    elif abi.USER_DEBUGREG <= addr < abi.USER_SIZE:
        value = _debug_register(trace, (addr - abi.USER_DEBUGREG) // 4)
    t.memory.store(data, 4, value)
    return 0


def _poke_user(t: Thread, found: Thread, trace: Trace, addr: int, data: int) -> int:
    if addr & 3 or addr > abi.USER_SIZE:
        raise Errno(EIO)
    if addr < abi.REGS.size:
        _set_register(found, trace, abi.REGISTERS[addr // 4], data)
    elif abi.USER_DEBUGREG <= addr < abi.USER_SIZE:
        _set_debug_register(found, trace, (addr - abi.USER_DEBUGREG) // 4, data)
    return 0


def _debug_register(trace: Trace, number: int) -> int:
    debug = trace.debug
    if number < COUNT:
        return debug.addresses[number]
    return {6: debug.status, 7: debug.control}.get(number, 0)


def _set_debug_register(found: Thread, trace: Trace, number: int, value: int) -> None:
    """Raises Errno: EIO for DR4 and DR5, EINVAL for what is no place for a breakpoint."""
    debug = trace.debug
    if number in (4, 5):
        raise Errno(EIO)
    if number == 6:
        debug.status = value
        return
    addresses = [value if n == number else address for n, address in enumerate(debug.addresses)]
    try:
        debug.set(addresses, value if number == 7 else debug.control)
    except ValueError:
        raise Errno(EINVAL) from None
    found.core.debug = debug if debug.places else None


# --- register sets ----------------------------------------------------------------------------------------------------


def _floating(found: Thread) -> bytes:
    return fpu.fsave_image(found.core.cpu)[:FSAVE_BYTES]


def _set_floating(found: Thread, trace: Trace, data: bytes) -> None:
    _need(data, FSAVE_BYTES)
    fpu.restore_fsave_image(found.core.cpu, data)


def _extended(found: Thread) -> bytes:
    if not has_fxsave(found):
        raise Errno(ENODEV)
    return fpu.fxsave_image(found.core.cpu)


def _set_extended(found: Thread, trace: Trace, data: bytes) -> None:
    _need(data, FXSAVE_BYTES)
    _extended(found)
    if fpu.mxcsr(data) & ~0xFFFF:
        raise Errno(EINVAL)
    fpu.restore_fxsave_image(found.core.cpu, data)


def _xstate(found: Thread) -> bytes:
    if not has_xsave(found):
        raise Errno(ENODEV)
    return fpu.xsave_image(found.core.cpu)


def _set_xstate(found: Thread, trace: Trace, data: bytes) -> None:
    _need(data, len(_xstate(found)))
    if fpu.mxcsr(data) & ~0xFFFF:
        raise Errno(EINVAL)
    fpu.restore_fxsave_image(found.core.cpu, data[:FXSAVE_BYTES])
    fpu.restore_upper(found.core.cpu, data)


def _tls(found: Thread) -> bytes:
    return b"".join(show_tls(found, index) for index in range(len(found.core.cpu.tls)))


def _set_general(found: Thread, trace: Trace, data: bytes) -> None:
    now = registers(found, trace)
    _set_all(found, trace, data + now[len(data) :])


def _set_tls(found: Thread, trace: Trace, data: bytes) -> None:
    if len(data) % DESCRIPTOR_BYTES:
        raise Errno(EINVAL)
    for at in range(0, len(data), DESCRIPTOR_BYTES):
        set_tls(found, at // DESCRIPTOR_BYTES, data[at : at + DESCRIPTOR_BYTES])


def _need(data: bytes, size: int) -> None:
    if len(data) < size:
        raise Errno(EFAULT)


_Setter = Callable[[Thread, Trace, bytes], None]
_SETS: Final[dict[int, tuple[Callable[[Thread, Trace], bytes], _Setter]]] = {
    abi.NT_PRSTATUS: (registers, _set_general),
    abi.NT_PRFPREG: (lambda found, trace: _floating(found), _set_floating),
    abi.NT_PRXFPREG: (lambda found, trace: _extended(found), _set_extended),
    abi.NT_X86_XSTATE: (lambda found, trace: _xstate(found), _set_xstate),
    abi.NT_386_TLS: (lambda found, trace: _tls(found), _set_tls),
}


def _get_set(t: Thread, found: Thread, trace: Trace, addr: int, data: int) -> int:
    """GETREGSET: as much of a set as there is room for; how much is told."""
    base, length = abi.IOVEC.unpack(t.memory.read(data, abi.IOVEC.size))
    kind = _SETS.get(addr)
    if kind is None or length % 4:
        raise Errno(EINVAL)
    image = kind[0](found, trace)[:length]
    t.memory.write(base, image)
    t.memory.store(data + 4, 4, len(image))
    return 0


def _set_set(t: Thread, found: Thread, trace: Trace, addr: int, data: int) -> int:
    """SETREGSET."""
    base, length = abi.IOVEC.unpack(t.memory.read(data, abi.IOVEC.size))
    kind = _SETS.get(addr)
    if kind is None or length % 4:
        raise Errno(EINVAL)
    size = min(length, len(kind[0](found, trace)))
    kind[1](found, trace, t.memory.read(base, size))
    t.memory.store(data + 4, 4, size)
    return 0


def _get_floating(t: Thread, found: Thread, trace: Trace, addr: int, data: int) -> int:
    t.memory.write(data, _floating(found))
    return 0


def _put_floating(t: Thread, found: Thread, trace: Trace, addr: int, data: int) -> int:
    _set_floating(found, trace, t.memory.read(data, FSAVE_BYTES))
    return 0


def _get_extended(t: Thread, found: Thread, trace: Trace, addr: int, data: int) -> int:
    t.memory.write(data, _extended(found))
    return 0


def _put_extended(t: Thread, found: Thread, trace: Trace, addr: int, data: int) -> int:
    _set_extended(found, trace, t.memory.read(data, FXSAVE_BYTES))
    return 0


def _thread_area(t: Thread, found: Thread, trace: Trace, addr: int, data: int) -> int:
    """GET_THREAD_AREA: a TLS descriptor."""
    t.memory.write(data, show_tls(found, _tls_index(found, addr)))
    return 0


def _set_thread_area(t: Thread, found: Thread, trace: Trace, addr: int, data: int) -> int:
    """SET_THREAD_AREA."""
    image = t.memory.read(data, DESCRIPTOR_BYTES)
    set_tls(found, _tls_index(found, addr), image)
    return 0


def _tls_index(found: Thread, entry: int) -> int:
    index = entry - FIRST_TLS_ENTRY
    if not 0 <= index < len(found.core.cpu.tls):
        raise Errno(EINVAL)
    return index


# --- signals and calls ------------------------------------------------------------------------------------------------


def _get_info(t: Thread, found: Thread, trace: Trace, addr: int, data: int) -> int:
    if trace.info is None:
        raise Errno(EINVAL)
    t.memory.write(data, trace.info.pack())
    return 0


def _set_info(t: Thread, found: Thread, trace: Trace, addr: int, data: int) -> int:
    image = t.memory.read(data, abi.SIGINFO_BYTES)
    if trace.info is None:
        raise Errno(EINVAL)
    signo, _, code = struct.unpack_from("<iii", image)
    trace.info = SigInfo(signo & 0x7F, code, raw=image[12:])
    return 0


def _peek_info(t: Thread, found: Thread, trace: Trace, addr: int, data: int) -> int:
    """PEEKSIGINFO: signals that wait, from a number on; how many were told."""
    start, flags, number = abi.PEEK_ARGUMENTS.unpack(t.memory.read(addr, abi.PEEK_ARGUMENTS.size))
    if flags & ~abi.PEEK_SHARED or number < 0:
        raise Errno(EINVAL)
    pending = found.process.pending if flags & abi.PEEK_SHARED else found.pending
    told = 0
    for info in pending.waiting()[start : start + min(number, PEEKED_AT_ONCE)]:
        try:
            t.memory.write(data + told * abi.SIGINFO_BYTES, info.pack())
        except MemoryFault:
            if not told:
                raise
            break
        told += 1
    return told


def _get_mask(t: Thread, found: Thread, trace: Trace, addr: int, data: int) -> int:
    if addr != 8:
        raise Errno(EINVAL)
    t.memory.write(data, struct.pack("<Q", found.mask))
    return 0


def _set_mask(t: Thread, found: Thread, trace: Trace, addr: int, data: int) -> int:
    if addr != 8:
        raise Errno(EINVAL)
    found.set_mask(struct.unpack("<Q", t.memory.read(data, 8))[0] & ~UNBLOCKABLE)
    return 0


def _call_info(t: Thread, found: Thread, trace: Trace, addr: int, data: int) -> int:
    """GET_SYSCALL_INFO: what the stop has to do with a system call; how many bytes there are to tell."""
    cpu = found.core.cpu
    image = abi.SYSCALL_INFO.pack(trace.at_call, abi.AUDIT_ARCH_I386, cpu.eip, cpu.esp)
    if trace.at_call == abi.INFO_ENTRY:
        arguments = (cpu.ebx, cpu.ecx, cpu.edx, cpu.esi, cpu.edi, cpu.ebp)
        image += abi.ENTRY_INFO.pack(trace.number & 0xFFFFFFFF, *arguments)
    elif trace.at_call == abi.INFO_EXIT:
        value = cpu.eax - (1 << 32) if cpu.eax > 0xFFFFF000 else cpu.eax
        image += abi.EXIT_INFO.pack(value - (1 << 32) if value > 0x7FFFFFFF else value, value < 0)
    t.memory.write(data, image[:addr])
    return len(image)


_Request = Callable[[Thread, Thread, Trace, int, int], int]
_REQUESTS: Final[dict[int, _Request]] = {
    abi.PEEKTEXT: _peek,
    abi.PEEKDATA: _peek,
    abi.PEEKUSER: _peek_user,
    abi.POKETEXT: _poke,
    abi.POKEDATA: _poke,
    abi.POKEUSER: _poke_user,
    abi.KILL: _kill,
    abi.GETREGS: _get_registers,
    abi.SETREGS: _set_registers,
    abi.GETFPREGS: _get_floating,
    abi.SETFPREGS: _put_floating,
    abi.GETFPXREGS: _get_extended,
    abi.SETFPXREGS: _put_extended,
    abi.GET_THREAD_AREA: _thread_area,
    abi.SET_THREAD_AREA: _set_thread_area,
    abi.PEEKSIGINFO: _peek_info,
    abi.SETOPTIONS: _set_options,
    abi.GETEVENTMSG: _event_message,
    abi.GETSIGINFO: _get_info,
    abi.SETSIGINFO: _set_info,
    abi.GETREGSET: _get_set,
    abi.SETREGSET: _set_set,
    abi.INTERRUPT: _interrupt,
    abi.LISTEN: _listen,
    abi.GETSIGMASK: _get_mask,
    abi.SETSIGMASK: _set_mask,
    abi.GET_SYSCALL_INFO: _call_info,
}
