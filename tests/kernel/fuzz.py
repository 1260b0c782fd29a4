"""Plausible system calls at random: valid descriptors, paths and pointers, flags by name, then bent a little.

    python -m tests.kernel.fuzz --runs 1000 --seed 0

A run drives a whole kernel (processes, threads, signals, time) without a CPU. What must hold: no exception of ours, a
thread waits in queues exactly while it is parked, and when all is over everything that was charged has been given back.
"""

from __future__ import annotations

import argparse
import random
import struct
import time
from pathlib import Path
from typing import Final

from aiopyvm.abi.errno import Errno
from aiopyvm.abi.stat import S_IFDIR
from aiopyvm.engine.protocol import Exit, ExitReason
from aiopyvm.errors import GuestMemoryError
from aiopyvm.kernel.devices import DeviceFs
from aiopyvm.kernel.fs import Directory
from aiopyvm.kernel.process import EndReason
from aiopyvm.kernel.procfs import ProcFs
from aiopyvm.kernel.thread import RunState, Thread
from aiopyvm.mem.faults import AddressSpaceFull
from aiopyvm.syscalls import spec
from aiopyvm.syscalls.table import TABLE
from tests.kernel.machine import SCRATCH, SCRATCH_SIZE, SECOND, Machine

HELLO: Final = (Path(__file__).parents[2] / "guests" / "bin" / "hello").read_bytes()
PATHS: Final = (
    b"/", b".", b"..", b"/tmp", b"/tmp/a", b"/tmp/b", b"/tmp/d", b"/tmp/d/e", b"/tmp/link", b"/tmp/fifo", b"/bin/hello",
    b"/bin/script", b"/dev/null", b"/dev/zero", b"/dev/full", b"/dev/urandom", b"/dev/tty", b"/dev/stdin", b"/proc",
    b"/proc/self/maps", b"/proc/self/fd", b"/proc/self/fd/3", b"/proc/self/exe", b"/proc/self/status", b"/proc/1/stat",
    b"/proc/self/cwd/a", b"/proc/self/task", b"/proc/meminfo", b"a", b"d/../a", b"", b"x" * 300, b"/" + b"y/" * 2000,
)  # fmt: skip
ODD: Final = (0, 1, 2, 3, 7, 8, 63, 64, 255, 4095, 4096, 4097, 65536, 0x7FFFFFFF, 0x80000000, 0xFFFFE000, 0xFFFFFFFF)
PATHS_AT: Final = SCRATCH + 0x20000
POINTERS_AT: Final = SCRATCH + 0x30000
NEVER: Final = frozenset({1, 252})  # exit and exit_group come now and then by themselves
LIMIT_S: Final = 2.0  # of one call, on a busy machine


class Fuzz:
    """One run."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.m = Machine(budget=24 << 20, memory_limit=16 << 20, process_limit=12, uid=self.rng.choice((1000, 1000, 0)))
        vfs = self.m.kernel.vfs
        self.slowest = (0.0, "")
        ctx = vfs.administrator()
        for name in (b"/tmp", b"/bin"):
            vfs.make(ctx, name, S_IFDIR | 0o777).set_mode(0o777)
        vfs.mount(b"/dev", DeviceFs(vfs.clock, vfs.budget))
        vfs.mount(b"/proc", ProcFs(vfs))
        for name, data in ((b"/bin/hello", HELLO), (b"/bin/script", b"#!/bin/hello x y\n")):
            file = vfs.open(ctx, name, 0o102, 0o777).hold()
            file.write(data)
            file.release()
        vfs.fs.uid = 1000  # type: ignore[attr-defined]
        self.numbers = [n for n in TABLE if n not in NEVER]
        self.common = [n for n in self.numbers if TABLE[n].waits or n in (2, 5, 11, 42, 90, 91, 120, 192, 331, 37, 174)]

    def run(self, steps: int) -> None:
        """Make `steps` calls. Raises AssertionError for what must not be."""
        m, rng = self.m, self.rng
        for _ in range(steps):
            alive = [t for t in m.kernel.threads.values() if t.state is RunState.RUNNABLE]
            if not alive or rng.random() < 0.05:
                self.disturb()
                alive = [t for t in m.kernel.threads.values() if t.state is RunState.RUNNABLE]
            if m.kernel.ended:
                break
            if alive:
                self.step(rng.choice(alive))
            self.check()
        m.kernel.terminate(EndReason.TERMINATED)
        self.check_leaks()

    def step(self, t: Thread) -> None:
        """Let one thread make a call."""
        rng = self.rng
        self.m.kernel.resume(t)
        if t.state is not RunState.RUNNABLE:
            return
        self.furnish(t)
        number = rng.choice(self.common if rng.random() < 0.4 else self.numbers)
        args: list[int] = []
        for kind in TABLE[number].kinds:
            value = self.argument(t, kind)
            args += [value & 0xFFFFFFFF] if kind.slots == 1 else [value & 0xFFFFFFFF, value >> 32 & 0xFFFFFFFF]
        if number == 120:
            args[0] = rng.choice((0x11, 0x11, 0x3D0F00, 0x50F00, 0x4111, args[0]))
        args = [arg if rng.random() < 0.97 else rng.choice(ODD) for arg in args] + [0] * (6 - len(args))
        cpu = t.core.cpu
        cpu.eax = number
        cpu.ebx, cpu.ecx, cpu.edx, cpu.esi, cpu.edi, cpu.ebp = args
        cpu.eip = 0x08048002
        cpu.instructions += rng.randrange(10000)
        began = time.perf_counter()
        self.m.kernel.trap(t, Exit(ExitReason.SYSCALL))
        took = time.perf_counter() - began
        text = f"{TABLE[number].name}({', '.join(map(hex, args))})"
        if took > self.slowest[0]:
            self.slowest = (took, text)
        for process in list(self.m.kernel.processes.values()):
            if process.failure is not None:
                raise AssertionError(f"{text}: {process.failure}") from process.failure.__cause__

    def disturb(self) -> None:
        """Let time pass, or send a signal."""
        m, rng = self.m, self.rng
        m.advance(rng.choice((1, 10**6, SECOND, 1000 * SECOND)))
        processes = list(m.kernel.processes.values())
        if processes and rng.random() < 0.7:
            signal = rng.choice((2, 10, 12, 13, 14, 17, 18, 18, 18, 19, 20, 33, 34, rng.randrange(1, 65)))
            target = rng.choice(processes)
            if signal != 9 or target is not m.kernel.init:
                m.kernel.send_signal(target, signal)
        for t in list(m.kernel.threads.values()):
            if t.state is RunState.RUNNABLE:
                m.kernel.resume(t)

    def furnish(self, t: Thread) -> None:
        """Map the scratch memory if it is gone, fill it anew now and then, and give the thread a stack there."""
        rng = self.rng
        try:
            if not t.memory.is_mapped(SCRATCH, SCRATCH_SIZE) or rng.random() < 0.1:
                t.memory.map(SCRATCH, SCRATCH_SIZE, 3)
            paths = b"".join(path.ljust(64, b"\0") for path in PATHS[:-2])
            t.memory.poke(PATHS_AT, paths + PATHS[-2] + b"\0" * 20 + PATHS[-1] + b"\0")
            pointers = [PATHS_AT + 64 * rng.randrange(len(PATHS)) for _ in range(6)] + [0, 0]
            t.memory.poke(POINTERS_AT, struct.pack("<8I", *pointers))
            for _ in range(4):
                self.scribble(t, SCRATCH + rng.randrange(0, 0x1000, 8))
        except (AddressSpaceFull, GuestMemoryError):  # the budget is spent
            return
        if not SCRATCH < t.core.cpu.esp < SCRATCH + SCRATCH_SIZE:
            t.core.cpu.esp = SCRATCH + 0x1F000

    def scribble(self, t: Thread, at: int) -> None:
        """Words that may be times, iovecs, masks, sets of descriptors, actions."""
        rng = self.rng
        words = [
            rng.choice((0, 0, 1, 2, 3, 5, 100, 999999, SCRATCH + rng.randrange(0x2000), rng.choice(ODD)))
            for _ in range(16)
        ]
        t.memory.poke(at, struct.pack("<16I", *words))

    def argument(self, t: Thread, kind: spec.Kind) -> int:
        """A plausible value of a kind."""
        rng = self.rng
        if isinstance(kind, spec.FdKind):
            fds = [fd for fd, _ in t.process.fds]
            return -100 if kind.at and rng.random() < 0.5 else rng.choice(fds or [0]) if rng.random() < 0.95 else 77
        if isinstance(kind, spec.PathKind):
            n = rng.randrange(len(PATHS))
            return PATHS_AT + 64 * n
        if isinstance(kind, spec.StringVector):
            return POINTERS_AT + 4 * rng.randrange(8)
        if isinstance(kind, spec.SignalKind):
            return rng.choice((0, 10, 12, 17, 18, 19, 20, 34, 35, rng.randrange(1, 65)))
        if isinstance(kind, spec.Flags):
            names = list(kind.names)
            return sum({rng.choice(names) for _ in range(rng.choice((0, 1, 1, 2, 3)))}) if names else 0
        if isinstance(kind, spec.Choice):
            return rng.choice(list(kind.names))
        if isinstance(kind, (spec.Reference, spec.Pointer, spec.IovecKind, spec.BufferIn, spec.BufferOut)):
            return 0 if rng.random() < 0.1 else SCRATCH + rng.randrange(0, 0x1000, 8)
        if isinstance(kind, spec.Wide):
            return rng.choice((0, 1, 100, 4096, 1 << 20, 1 << 40, -1))
        pids = [0, 1, -1, *t.kernel.processes]
        return rng.choice((0, 1, 2, 8, 8, 8, 16, 100, 4096, 8192, 65536, 1 << 20, rng.choice(pids), rng.choice(ODD)))

    # --- what must hold ---------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Look at every thread."""
        assert self.m.budget.used >= 0
        kernel = self.m.kernel
        tasks = kernel.threads.keys() | kernel.processes.keys()
        assert getattr(kernel.tasks, "used", None) == len(tasks), tasks
        for tid, t in self.m.kernel.threads.items():
            assert t.tid == tid
            assert t.state is not RunState.DEAD
            assert (t.wait is not None) == (t.state is RunState.PARKED), t
            if t.wait is not None:
                assert all(t in tuple(queue) for queue in t.wait.queues), t
            assert t.process.threads[tid] is t

    def check_leaks(self) -> None:
        """Everything has ended: remove all files, and nothing is charged any more but what was at the start."""
        kernel = self.m.kernel
        assert not kernel.threads
        assert getattr(kernel.files, "used", None) == 0
        for process in self.m.exited:
            assert process.failure is None, process.failure
        kernel.vfs.blocked_locks.clear()
        for _, fs in kernel.vfs.mounts:
            _clear(fs.root)
        fresh = Machine(budget=24 << 20)
        vfs = fresh.kernel.vfs
        vfs.mount(b"/dev", DeviceFs(vfs.clock, vfs.budget))
        vfs.mount(b"/proc", ProcFs(vfs))
        fresh.kernel.terminate(EndReason.TERMINATED)
        for _, fs in vfs.mounts:
            _clear(fs.root)
        assert self.m.budget.used == fresh.budget.used, (self.m.budget.used, fresh.budget.used)


def _clear(directory: Directory) -> None:
    for name, (_, inode) in list(getattr(directory, "_entries", {}).items()):
        if isinstance(inode, Directory):
            _clear(inode)
        try:
            directory.unlink(name, inode)
        except Errno as error:
            raise AssertionError(f"{name!r} stays: {error}") from error


def run(seed: int, steps: int = 300) -> Fuzz:
    """Make one run; return it."""
    fuzz = Fuzz(seed)
    try:
        fuzz.run(steps)
    except Exception as error:
        error.add_note(f"seed {seed}")
        raise
    return fuzz


def main() -> None:
    """Make many runs and tell of the slowest call."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--go-on", action="store_true")
    options = parser.parse_args()
    slow: list[tuple[float, str]] = []
    for seed in range(options.seed, options.seed + options.runs):
        try:
            slow.append(run(seed, options.steps).slowest)
        except AssertionError as error:
            if not options.go_on:
                raise
            print(seed, str(error)[:200])
    for took, text in sorted(slow, reverse=True)[:8]:
        print(f"{took * 1000:8.1f} ms  {text}")


if __name__ == "__main__":
    main()
