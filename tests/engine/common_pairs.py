"""Writes aiopyvm/engine/native/commonpairs.py: `python -m tests.engine.common_pairs BUSYBOX`.

The pairs of instructions that guests of the repository and applets of a static busybox execute most, by samples of the
cold tier: each program counts alike. Only pairs of which both have a handler that is built ahead of time.
"""

from __future__ import annotations

import os
import random
import sys
from collections import Counter
from pathlib import Path

import anyio

from aiopyvm import VM
from aiopyvm.engine.native import commonpairs
from aiopyvm.engine.native.aot import ahead_of_time
from aiopyvm.engine.native.engine import NativeEngine
from aiopyvm.engine.native.handlers import Shape, flow
from aiopyvm.engine.protocol import Core, Exit, ExitReason
from aiopyvm.engine.python.fetch import fetch_insn
from aiopyvm.isa.decode_faults import DecodeFault
from aiopyvm.isa.insn import Insn
from aiopyvm.mem.faults import MemoryFault
from bench.native import HOT_AFTER, LOADS, NEVER, load
from bench.table import GUESTS

MOST = 160
_HEAD = '''"""Pairs of instructions that have one handler (`pairs.py`), each as bytes; the commonest come first.

Made by tests/engine/common_pairs.py.
"""

from typing import Final

PAIRS: Final = """
'''
Pair = tuple[str, str]


class Sampler:
    """Stops the engine at random places and looks at the next two instructions."""

    def __init__(self) -> None:
        self.rng = random.Random(1)
        self.counts: Counter[Pair] = Counter()
        self.samples = 0
        self.codes: dict[Pair, str] = {}
        self._run = NativeEngine.run

    def run(self, engine: NativeEngine, core: Core, budget: int, patience: int, *rest: object) -> Exit:
        """In place of the engine's."""
        left = budget
        while True:
            before: int = core.cpu.instructions
            exit_ = self._run(engine, core, min(left, self.rng.randrange(300, 3000)), patience)
            left -= core.cpu.instructions - before
            if exit_.reason is not ExitReason.BUDGET or left <= 0:
                return exit_
            self.samples += 1
            self._look(core)

    def _look(self, core: Core) -> None:
        try:
            first = fetch_insn(core.memory, core.cpu.eip)
            second = fetch_insn(core.memory, core.cpu.eip + first.length)
        except (MemoryFault, DecodeFault):
            return
        if not _leads_on(first) or first.rep or second.rep:
            return
        pair = Shape(first).name, Shape(second).name
        self.counts[pair] += 1
        self.codes.setdefault(pair, f"{first.code.hex()}.{second.code.hex()}")


def _leads_on(insn: Insn) -> bool:
    return not flow(insn).ends and not insn.row.rep


def programs(busybox: Path) -> list[tuple[Path, list[str], bytes]]:
    """What is run: program, arguments, standard input."""
    rng = random.Random(2)
    numbers = b"".join(b"%d\n" % rng.randrange(10**6) for _ in range(20_000))
    applets = {
        "awk": (["BEGIN { for (i = 0; i < 20000; i++) { s += i; a[i % 100] = s }; print s }"], b""),
        "sh": (["-c", "x=1; while [ $x -lt 4000 ]; do x=$((x+1)); done"], b""),
        "sort": ([], numbers),
        "gzip": (["-c"], bytes(rng.randrange(60) for _ in range(200_000))),
        "md5sum": ([], bytes(500_000)),
        "grep": (["a.*b"], b"hello world aXb\n" * 5000),
        "sed": (["s/o/0/g"], b"hello world\n" * 5000),
    }
    guests = [(GUESTS / name, *load(name, 100)) for name in LOADS]
    return guests + [(busybox, [name, *args], stdin) for name, (args, stdin) in applets.items()]


def main(busybox: Path) -> None:
    """Write the module."""
    os.environ[HOT_AFTER] = NEVER
    sampler, shares = Sampler(), Counter[Pair]()
    NativeEngine.run = lambda *args: sampler.run(*args)  # type: ignore[method-assign]
    NativeEngine.launch = lambda *args: 0  # type: ignore[method-assign]
    for path, args, stdin in programs(busybox):
        sampler.counts.clear()
        sampler.samples = 0
        anyio.run(_execute, path, args, stdin)
        for pair, count in sampler.counts.items():
            shares[pair] += count * 10**9 // sampler.samples
    symbols = ahead_of_time().wait(100).symbols
    known = [pair for pair, _ in shares.most_common() if symbols.keys() >= set(pair)]
    lines = [""]
    for code in (sampler.codes[pair] for pair in known[:MOST]):
        if len(lines[-1]) + len(code) >= 119:
            lines.append("")
        lines[-1] += (" " if lines[-1] else "") + code
    Path(commonpairs.__file__).write_text(_HEAD + "\n".join(lines) + '\n"""\n')


async def _execute(path: Path, args: list[str], stdin: bytes) -> None:
    await VM(engine="native").run_elf(path, *args, stdin=stdin)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
