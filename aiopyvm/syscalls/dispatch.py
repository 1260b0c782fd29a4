"""Entering, continuing and ending system calls: only here `Errno` becomes a negative EAX, a `Wait` a parked thread.

    EAX, EBX... -> Call -> handler -> result | Errno | MemoryFault (EFAULT) | Wait | unknown number (ENOSYS, counted)

A Python exception of any other kind is a bug of ours: `InternalError`, which ends that guest process alone.
"""

from __future__ import annotations

import importlib
import struct
from collections.abc import Callable
from typing import Final

from aiopyvm.abi.errno import EFAULT, EINTR, ENOSYS, Errno
from aiopyvm.errors import InternalError
from aiopyvm.isa.state import CpuState
from aiopyvm.kernel import lifecycle, ptrace
from aiopyvm.kernel.process import EndReason
from aiopyvm.kernel.thread import RunState, Thread
from aiopyvm.kernel.wait import Call, Cause, Restart, Wait
from aiopyvm.mem.faults import MemoryFault
from aiopyvm.syscalls.index import FAMILY
from aiopyvm.syscalls.spec import AT_ONCE, TABLE, Syscall

CALL_COST: Final = 200  # virtual instructions that a call costs
MOVED_SHIFT: Final = 4  # and one for each 16 bytes that it moves

MAX_UNKNOWN: Final = 256  # unknown numbers that are counted one by one
OTHER_UNKNOWN: Final = -1  # and all others together

INT80_SIZE: Final = 2

_registers: Final = struct.Struct("<4I4x3I").unpack_from  # EAX ECX EDX EBX EBP ESI EDI of a CpuState
assert [name for name, *_ in CpuState._fields_[:8]] == ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"]


def _find(number: int) -> Syscall | None:
    """Import the family that has the call; None: there is no such call."""
    family = FAMILY.get(number)
    if family is not None:
        importlib.import_module(f"aiopyvm.syscalls.{family}")
    return TABLE.get(number)


class Dispatcher:
    """The system-call table at work, for any number of kernels (`Kernel(syscalls=Dispatcher())`)."""

    def enter(self, t: Thread) -> int:
        """Begin the call that EAX names, in the registers' state; return its cost."""
        cpu = t.core.cpu
        number, ecx, edx, ebx, _, _, _ = registers = _registers(cpu)
        at_once = AT_ONCE.get(number)
        if at_once is None or t.trace is not None or (kernel := t.kernel).strace is not None:
            return self._enter(t) if t.trace is None else self._enter_traced(t)
        try:
            n = at_once(t, ebx, ecx, edx)
        except (Errno, MemoryFault):
            return self._enter(t)  # the handler finds out again
        except Exception as error:
            self._failed(t, Call(number, (), TABLE[number].name), TABLE[number], error)
            return CALL_COST
        if type(n) is not int:
            assert isinstance(n, Wait)
            return self._begin_to_wait(t, n, registers)
        if n < 0:
            return self._enter(t)
        kernel.calls[number] += 1
        cpu.eax = n
        t.system_ns += (cost := CALL_COST + (n >> MOVED_SHIFT))
        return cost

    def _enter_traced(self, t: Thread) -> int:
        """As `enter`, of a thread that is traced."""
        trace = t.trace
        assert trace is not None
        if not trace.stops_at_calls:
            t.attention = True
            if trace.steps:
                trace.stepped = True
            return self._enter(t)
        ptrace.call_begins(t, t.core.cpu.eax)
        return CALL_COST

    def enter_now(self, t: Thread) -> int:
        """As `enter`, of a thread whose tracer has seen the call."""
        return self._enter(t)

    def _enter(self, t: Thread) -> int:
        """As `enter`, by the call's handler."""
        cpu, kernel = t.core.cpu, t.kernel
        number, ecx, edx, ebx, ebp, esi, edi = _registers(cpu)
        row = TABLE.get(number) or _find(number)
        args = (ebx, ecx, edx, esi, edi, ebp)
        if row is None:
            self._unknown(t, number, args)
            return CALL_COST
        kernel.calls[number] += 1
        kernel.current = t
        t.call = call = Call(number, args, row.name)
        t.moved = 0
        if kernel.strace is not None:
            return self._go_on(t, call, row, self._traced(t, call, row, kernel.strace))
        try:
            call.values = values = row.decode(t, args)
            result = row.handler(t, *values)
        except Exception as error:
            result = self._failed(t, call, row, error)
        if type(result) is not int or t.call is not call:
            return self._go_on(t, call, row, result)
        cpu.eax = result & 0xFFFFFFFF
        t.call = None
        if call.saved_mask is not None:
            t.set_mask(call.saved_mask)
        t.system_ns += (cost := CALL_COST + (t.moved >> MOVED_SHIFT))
        return cost

    def _begin_to_wait(self, t: Thread, wait: Wait, registers: tuple[int, ...]) -> int:
        """As `enter`, of a call that waits and has not been to its handler. `wait` may be one that has been waited for:
        its call is in its first state."""
        number, kernel = registers[0], t.kernel
        kernel.calls[number] += 1
        self._wait_for(t, wait, registers)
        call = t.call
        assert call is not None
        if (t.pending.bits | t.process.pending.bits) & ~t.mask:
            return self._go_on(t, call, TABLE[number], wait)
        kernel.park(t, wait)
        t.system_ns += CALL_COST
        return CALL_COST

    def waits_again(self, t: Thread, wait: Wait) -> None:
        """`t` has made the call of `wait` again, in the registers' state; it is counted, and paid for."""
        self._wait_for(t, wait, _registers(t.core.cpu))

    def _wait_for(self, t: Thread, wait: Wait, registers: tuple[int, ...]) -> None:
        call = wait.call
        if call is None or wait.registers != registers:
            wait.call = call = self._waiting_call(t, wait, registers)
            wait.registers = registers
        t.call = call
        t.moved = 0

    def _waiting_call(self, t: Thread, wait: Wait, registers: tuple[int, ...]) -> Call:
        """A call of these registers, as it is when its handler has not been asked."""
        number, ecx, edx, ebx, ebp, esi, edi = registers
        row = TABLE[number]
        call = Call(number, (ebx, ecx, edx, esi, edi, ebp), row.name)
        call.values = row.decode(t, call.args)
        assert wait.file is not None
        fd = call.values[0]
        if wait.direct is not None:
            name, values = wait.direct
            call.state.update(direct=name, values=values)
            fd = values[0]
        call.files = {fd: wait.file}
        return call

    def _traced(self, t: Thread, call: Call, row: Syscall, show: Callable[[Thread, str], None]) -> int | Wait:
        """Call the handler for the first time; before, keep what its arguments point to, for the line at its end."""
        from aiopyvm.syscalls import strace

        try:
            call.values = row.decode(t, call.args)
            call.state["strace"] = strace.entry(t, call, row)
        except Exception as error:
            return self._failed(t, call, row, error)
        if row.name in strace.ENDINGS:
            show(t, strace.ending(call, row))
        return self._run(t, call, row)

    def _unknown(self, t: Thread, number: int, args: tuple[int, ...]) -> None:
        kernel, unknown = t.kernel, t.kernel.unknown_syscalls
        unknown[number if number in unknown or len(unknown) < MAX_UNKNOWN else OTHER_UNKNOWN] += 1
        t.core.cpu.eax = -ENOSYS & 0xFFFFFFFF
        if kernel.strace is not None:
            from aiopyvm.syscalls import strace

            kernel.strace(t, strace.unknown(number, args))

    def proceed(self, t: Thread) -> int:
        """Continue the call in progress (`call.woken` says why); return the cost."""
        call = t.call
        assert call is not None
        t.moved = 0
        row = TABLE[call.number]
        return self._go_on(t, call, row, self._run(t, call, row))

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
        """End the call of `t`, which waits and has changed nothing, with `result`; see `WaitQueue.hand_over`."""
        t.core.cpu.eax = result
        call, t.call = t.call, None
        wait = t.wait
        if call is not None and wait is not None and wait.call is call and call.woken is None:
            if wait.room is not None:
                t.usual_read = wait
            else:
                t.usual_write = wait

    def _go_on(self, t: Thread, call: Call, row: Syscall, result: int | Wait) -> int:
        """Do what follows from what the handler said: end the call, wait, or be interrupted; return the cost."""
        if isinstance(result, Wait):
            pending = t.pending_bits()
            if t.trace is not None and self._stops_first(t, call, result):
                return self._cost(t)
            if not pending or (result.uninterruptible and not pending & 0x100):
                t.kernel.park(t, result)
                return self._cost(t)
            if call.woken is not Cause.SIGNAL:
                call.woken = Cause.SIGNAL
                result = self._run(t, call, row)
            if isinstance(result, Wait):
                t.interrupted = result
                t.attention = True
                return self._cost(t)
        if t.call is call:
            self._finish(t, call, result)
        return self._cost(t)

    def _stops_first(self, t: Thread, call: Call, wait: Wait) -> bool:
        """A traced thread whose call waits is to stop for its tracer before: the call goes on, or is interrupted."""
        if not ptrace.pauses(t):
            return False
        t.attention = True
        if ptrace.interrupted(t, wait):
            t.interrupted = wait
        return True

    def _run(self, t: Thread, call: Call, row: Syscall) -> int | Wait:
        """Call the handler, whose arguments are known."""
        assert call.values is not None
        t.kernel.current = t
        try:
            return row.handler(t, *call.values)
        except Exception as error:
            return self._failed(t, call, row, error)

    def _failed(self, t: Thread, call: Call, row: Syscall, error: Exception) -> int:
        """The result of a call whose handler raised `error`."""
        if isinstance(error, Errno):
            return -error.number
        if isinstance(error, MemoryFault):
            if error.out_of_memory:
                lifecycle.end_run(t.kernel, EndReason.MEMORY_LIMIT, f"{row.name}: no memory for {error.address:#010x}")
            return -EFAULT
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
            from aiopyvm.syscalls import strace

            show(t, strace.line(t, call, TABLE[call.number], None if restarted else result))

    def _cost(self, t: Thread) -> int:
        cost = CALL_COST + (t.moved >> MOVED_SHIFT)
        t.system_ns += cost
        return cost
