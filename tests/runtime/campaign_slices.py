"""Every guest on every engine, cut into slices of every length: `python -m tests.runtime.campaign_slices [PROGRAM...]`.

Slices of `SLICES` instructions, and `--random N` times of random lengths; committed guests, static glibc programs, and
busybox applets where there is a busybox. What must not change: instructions in all, output, how it ended, and a digest
of registers, instruction count and exit at each thing that the kernel did, and of all memory before each process's
last system call and at each fault. Exits with 1 where something did.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from aiopyvm.engine.protocol import Engine, Exit, ExitReason
from aiopyvm.isa.vectors import PF
from aiopyvm.mem.space import AddressSpace
from aiopyvm.runtime.pages import by_page, content_of, unused
from aiopyvm.runtime.program import Program as Source
from aiopyvm.runtime.side import Setup, Side
from tests.conftest import GUESTS
from tests.engine.engines import engine_of
from tests.guests.programs import COMMITTED, GLIBC, Program
from tests.native import busybox_path, glibc_path

SLICES: Final = (1, 2, 3, 7, 61, 997, 65_536, 1_000_000)
ENGINES: Final = ("auto", "native", "hot", "guarded")  # beside "cold", which runs each program once, uncut
QUANTUM: Final = 1_000_000  # of every run alike: where threads take turns is no matter of slices
MOST_STEPS: Final = 2_000_000  # instructions of a program that is cut into the shortest pieces, too
_SHORT: Final = 61
_EXIT_CALLS: Final = (1, 252)
_APPLETS: Final = (
    "echo one two", "seq 30", "sort -rn", "md5sum", "sha1sum", "wc", "tr a-z A-Z", "rev", "head -2", "grep -n o",
    "sed s/o/0/g", "awk {n+=NF}END{print(n)}", "cut -c2-5", "expr 6 * 7", "od -c", "ls -l /", "date -u -d @86400",
    "printf %05d 42", "factor 360360", "bc",
)  # fmt: skip
_SCRIPT: Final = "i=0; while [ $i -lt 20 ]; do i=$((i+1)); done; (echo $i | cat) && ls / | sort -r; kill -9 $$"
_TEXT: Final = b"1+2*3\nfoo two 10\nlast\n"


@dataclass(frozen=True)
class Ran:
    """What must be the same, however a run is cut."""

    ending: str
    instructions: int
    output: bytes
    digest: str


def setups() -> dict[str, Setup]:
    """Every program by name."""
    found: dict[str, Setup] = {}
    for number, program in enumerate(COMMITTED):
        name = str(program)
        found[f"{name} {number}" if name in found else name] = _committed(program)
        if program.flat:
            data = (GUESTS / program.flat).read_bytes()
            source = Source((program.name,), (program.name.encode(),), data, flat=(0x10000, 0x10000))
            found[f"{program} flat"] = Setup(program=source, stdin=program.stdin)
    for program in GLIBC:
        if (path := glibc_path(program.name)) is not None:
            tree = {"bin": {program.name: path.read_bytes()}, "tmp": {}}
            found[f"glibc {program}"] = _inside(tree, (f"/bin/{program.name}", *program.args), program.stdin)
    if (busybox := busybox_path()) is not None:
        tree = {"bin": {"busybox": busybox.read_bytes()}, "tmp": {}}
        for applet in (*(applet.split() for applet in _APPLETS), ["sh", "-c", _SCRIPT]):
            found[f"busybox {' '.join(applet)[:24]}"] = _inside(tree, ("/bin/busybox", *applet), _TEXT)
    return {name: replace(setup, quantum=QUANTUM) for name, setup in found.items()}


def _committed(program: Program) -> Setup:
    args = (program.name, *program.args)
    argv = tuple(arg.encode() for arg in args)
    return Setup(program=Source(args, argv, (GUESTS / program.name).read_bytes()), stdin=program.stdin)


def _inside(tree: Mapping[str, Any], args: tuple[str, ...], stdin: bytes) -> Setup:
    source = Source(args, tuple(arg.encode() for arg in args))
    return Setup(program=source, root=tree, stdin=stdin, env={"PATH": "/bin"})


def run(setup: Setup, engine: Engine, budgets: Callable[[], int]) -> Ran:
    """Run a program to its end, `budgets()` instructions at a time."""
    output = bytearray()
    digest = hashlib.sha256()
    side = Side(engine.name, engine, replace(setup, output=lambda fd, data: output.extend(data)), shown=True)
    try:
        side.settle()
        while side.thread is not None:
            core = side.thread.core
            before = core.cpu.instructions
            exit_ = side.run(min(budgets(), side.left))
            if exit_.reason is not ExitReason.BUDGET:
                digest.update(repr((side.thread.tid, exit_)).encode() + bytes(core.cpu))
                if _is_last(exit_, core.cpu.eax):
                    _digest_memory(core.memory, digest.update)
            side.handle(exit_, core.cpu.instructions - before)
            side.settle()
        return Ran(side.ending, side.instructions, bytes(output), digest.hexdigest())
    finally:
        side.close()


def _is_last(exit_: Exit, eax: int) -> bool:
    """Tell whether memory is compared at this exit."""
    if exit_.reason is ExitReason.SYSCALL:
        return eax in _EXIT_CALLS
    return exit_.reason is ExitReason.FAULT and exit_.vector == PF


def _digest_memory(space: AddressSpace, update: Callable[[bytes], None]) -> None:
    """All pages that something was written to; a page that was only read is as good as one that was not."""
    for page, data in sorted(by_page(content_of(space)).items()):
        if data != unused(space, page):
            update(page.to_bytes(4, "little") + data)


def slicings(
    lengths: Iterable[int], count: int, seed: object, *, long: bool
) -> Iterator[tuple[str, Callable[[], int]]]:
    """Each way to cut a run: its name, and what gives the next slice's length. `count` of them are random. For a `long`
    program, only such that do not cut it into too many."""
    for length in lengths:
        if not long or length >= _SHORT:
            yield str(length), itertools.repeat(length).__next__
    for number in range(count):
        yield f"random {number}", random_lengths(f"{seed} {number}", 14 if long else 4)


def random_lengths(seed: str, least: int) -> Callable[[], int]:
    """Lengths of any magnitude, up to one that differs from seed to seed, at least 2 to the `least`."""
    random_ = random.Random(seed)
    most = random_.uniform(least, 20)
    return lambda: int(2 ** random_.uniform(0, most))


def compare(
    name: str, setup: Setup, engines: Mapping[str, Engine], count: int, lengths: Iterable[int] = SLICES
) -> tuple[Ran, list[str]]:
    """The program uncut on the evaluator of blocks, and how each other run of it differs: in slices of each of
    `lengths`, and `count` times of random ones.
    """
    expected = run(setup, engine_of("cold"), lambda: QUANTUM)
    wrong = []
    for engine_name, engine in engines.items():
        for slicing, budgets in slicings(lengths, count, name, long=expected.instructions > MOST_STEPS):
            if (ran := run(setup, engine, budgets)) != expected:
                wrong.append(f"{engine_name}, slices of {slicing}: {_told(ran)} instead of {_told(expected)}")
    return expected, wrong


def _told(ran: Ran) -> str:
    return f"{ran.instructions} instructions, {ran.ending}, {len(ran.output)} bytes, {ran.digest[:12]}"


def main() -> int:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--random", type=int, default=20, metavar="N", help="random slicings of each program")
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("names", nargs="*", metavar="PROGRAM")
    options = parser.parse_args()
    engines = {name: engine_of(name) for name in options.engines.split(",")}
    total = failed = runs = 0
    for name, setup in setups().items():
        if options.names and name not in options.names:
            continue
        began = time.process_time()
        ran, wrong = compare(name, setup, engines, options.random)
        runs += len(engines) * (len(SLICES) + options.random)
        total += 1
        failed += bool(wrong)
        print(f"{name}: {_told(ran)}: {len(wrong)} differ, {time.process_time() - began:.1f} s", flush=True)
        for line in wrong:
            print("   ", line, flush=True)
    print(f"{total} programs, {runs} runs, {failed} programs differ")
    return 1 if failed or not total else 0


if __name__ == "__main__":
    sys.exit(main())
