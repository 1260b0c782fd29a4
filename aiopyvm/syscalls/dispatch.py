"""Entering, continuing and ending system calls: only here `Errno` becomes a negative EAX, a `Wait` a parked thread.

    EAX, EBX... -> Call -> handler -> result | Errno | MemoryFault (EFAULT) | Wait | unknown number (ENOSYS, counted)

A Python exception of any other kind is a bug of ours: `InternalError`, which ends that guest process alone.
"""

from __future__ import annotations

import struct
from typing import Final

from aiopyvm.abi.errno import EFAULT, EINTR, ENOSYS, Errno
from aiopyvm.errors import InternalError
from aiopyvm.isa.state import CpuState
from aiopyvm.kernel import lifecycle
from aiopyvm.kernel.process import EndReason
from aiopyvm.kernel.thread import RunState, Thread
from aiopyvm.kernel.wait import Call, Cause, Restart, Wait
from aiopyvm.mem.faults import MemoryFault
from aiopyvm.syscalls import strace
from aiopyvm.syscalls.spec import Syscall
from aiopyvm.syscalls.table import TABLE

CALL_COST: Final = 200  # virtual instructions that a call costs
MOVED_SHIFT: Final = 4  # and one for each 16 bytes that it moves

MAX_UNKNOWN: Final = 256  # unknown numbers that are counted one by one
OTHER_UNKNOWN: Final = -1  # and all others together

INT80_SIZE: Final = 2

_registers: Final = struct.Struct("<4I4x3I").unpack_from  # EAX ECX EDX EBX EBP ESI EDI of a CpuState
assert [name for name, *_ in CpuState._fields_[:8]] == ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"]


class Dispatcher:
    """The system-call table at work, for any number of kernels (`Kernel(syscalls=Dispatcher())`)."""

    def enter(self, t: Thread) -> int:
        """Begin the call that EAX names, in the registers' state; return its cost."""
        cpu, kernel = t.core.cpu, t.kernel
        number, ecx, edx, ebx, ebp, esi, edi = _registers(cpu)
        row = TABLE.get(number)
        args = (ebx, ecx, edx, esi, edi, ebp)
        if row is None:
            unknown = kernel.unknown_syscalls
            unknown[number if number in unknown or len(unknown) < MAX_UNKNOWN else OTHER_UNKNOWN] += 1
            cpu.eax = -ENOSYS & 0xFFFFFFFF
            if kernel.strace is not None:
                kernel.strace(t, strace.unknown(number, args))
            return CALL_COST
        kernel.calls[number] += 1
        t.call = call = Call(number, args, row.name)
        t.moved = 0
        return self._advance(t, call, row)

    def proceed(self, t: Thread) -> int:
        """Continue the call in progress (`call.woken` says why); return the cost."""
        call = t.call
        assert call is not None
        t.moved = 0
        return self._advance(t, call, TABLE[call.number])

    def interrupt(self, t: Thread, *, handler: bool, restart: bool) -> None:
        """End the call of `t`, which a signal interrupted, as its Wait's `restart` says; or let it go on.

        `handler`: a signal handler is to run, with SA_RESTART where `restart`. Otherwise nothing of the guest's ran.
        """
        call, wait, t.interrupted = t.call, t.interrupted, None
        assert call is not None
        assert wait is not None
        kind = wait.restart
        if not handler:
            if kind is Restart.EINTR:
                self._finish(t, call, call.done or -EINTR)
            else:
                call.woken = None  # the call simply goes on: `proceed` comes next
        elif call.done:
            self._finish(t, call, call.done)
        elif kind is Restart.NOINTR or (kind is Restart.SYS and restart):
            self._show(t, call, -EINTR, restarted=True)
            t.core.cpu.eax = call.number
            t.core.cpu.eip = t.core.cpu.eip - INT80_SIZE & 0xFFFFFFFF
            t.call = None
            if call.saved_mask is not None:
                t.set_mask(call.saved_mask)
        else:
            self._finish(t, call, -EINTR)

    def finish(self, t: Thread, result: int) -> None:
        """End the call of `t`, which waits, with `result`; see `WaitQueue.hand_over`."""
        assert t.call is not None
        self._finish(t, t.call, result)

    def _advance(self, t: Thread, call: Call, row: Syscall) -> int:
        """Run the handler until it ends, waits, or is interrupted; return the cost."""
        result = self._run(t, call, row)
        if type(result) is Wait and (pending := t.pending_bits()) and (not result.uninterruptible or pending & 0x100):
            if call.woken is not Cause.SIGNAL:
                call.woken = Cause.SIGNAL
                result = self._run(t, call, row)
            if type(result) is Wait:
                t.interrupted = result
                t.attention = True
                return self._cost(t)
        if type(result) is Wait:
            t.kernel.park(t, result)
        elif t.call is call:
            self._finish(t, call, result)  # type: ignore[arg-type]
        return self._cost(t)

    def _run(self, t: Thread, call: Call, row: Syscall) -> int | Wait:
        try:
            values = call.values
            if values is None:
                call.values = values = row.decode(t, call.args)
                if t.kernel.strace is not None:
                    call.state["strace"] = strace.entry(t, call, row)
            return row.handler(t, *values)
        except Errno as error:
            return -error.number
        except MemoryFault as fault:
            if fault.out_of_memory:
                lifecycle.end_run(t.kernel, EndReason.MEMORY_LIMIT, f"{row.name}: no memory for {fault.address:#010x}")
            return -EFAULT
        except Exception as error:
            failure = InternalError(f"system call {row.name}{call.args}: {type(error).__name__}: {error}")
            failure.__cause__ = error
            t.kernel.fail(t, failure)
            return -EFAULT

    def _finish(self, t: Thread, call: Call, result: int) -> None:
        t.core.cpu.eax = result & 0xFFFFFFFF
        if t.kernel.strace is not None:
            self._show(t, call, result)
        t.call = None
        if call.saved_mask is not None:
            t.set_mask(call.saved_mask)

    def _show(self, t: Thread, call: Call, result: int, *, restarted: bool = False) -> None:
        show = t.kernel.strace
        if show is not None and t.state is not RunState.DEAD:
            show(t, strace.line(t, call, TABLE[call.number], None if restarted else result))

    def _cost(self, t: Thread) -> int:
        cost = CALL_COST + (t.moved >> MOVED_SHIFT)
        t.system_ns += cost
        return cost
