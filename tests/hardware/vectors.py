"""Recorded cases and what a real CPU answered: small files, so that tests pass where there is no such CPU.

A file is LZMA over one JSON line (what CPU and when made, how many, a note) and, for each case, its record and its
state's record (tests/hardware/wire.py).
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.hardware.harness import run_cases
from tests.hardware.wire import Case, State, split_records

DIRECTORY = Path(__file__).parents[1] / "vectors"
OTHER_MAKER = "another maker's CPU than that of the vectors: steps of FPREM, x87 pointers, order of faults differ"


def record(name: str, cases: Iterable[Case], note: str) -> int:
    """Run `cases` on this CPU, write them and their states to tests/vectors/NAME.xz, and return how many were written.

    A case that killed the harness is left out. Raises RuntimeError when this host cannot run 32-bit x86 programs.
    """
    listed = list(cases)
    pairs = [(case, state) for case, state in zip(listed, run_cases(listed), strict=True) if state is not None]
    header = json.dumps({"cpu": cpu_name(), "cases": len(pairs), "note": note}).encode() + b"\n"
    body = b"".join(case.pack() + state.pack() for case, state in pairs)
    DIRECTORY.mkdir(exist_ok=True)
    (DIRECTORY / f"{name}.xz").write_bytes(lzma.compress(header + body, preset=9 | lzma.PRESET_EXTREME))
    return len(pairs)


def load(name: str) -> Iterator[tuple[Case, State]]:
    """Yield the cases of tests/vectors/NAME.xz with the states that the hardware answered."""
    stream = lzma.decompress((DIRECTORY / f"{name}.xz").read_bytes())
    header, _, body = stream.partition(b"\n")
    records = split_records(body)
    for _ in range(json.loads(header)["cases"]):
        yield Case.unpack(next(records)), State.unpack(next(records))


def names() -> list[str]:
    """Return the names of all recorded sets, sorted."""
    return sorted(path.stem for path in DIRECTORY.glob("*.xz"))


def of_this_cpu(name: str) -> bool:
    """Whether tests/vectors/NAME.xz was recorded on a CPU like this host's."""
    header, _, _ = lzma.decompress((DIRECTORY / f"{name}.xz").read_bytes()).partition(b"\n")
    return bool(json.loads(header)["cpu"] == cpu_name())


def same_maker() -> bool:
    """Whether this host's CPU and that of all recorded sets have one maker: what manuals leave open is equal then."""
    makers = {cpu_name().split()[0]}
    for name in names():
        header, _, _ = lzma.decompress((DIRECTORY / f"{name}.xz").read_bytes()).partition(b"\n")
        makers.add(json.loads(header)["cpu"].split()[0])
    return len(makers) == 1


def cpu_name() -> str:
    """Return vendor, family, model and stepping of this host's CPU, as /proc/cpuinfo has them."""
    wanted = ("vendor_id", "cpu family", "model", "stepping")
    facts: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        facts.setdefault(key.strip(), value.strip())
    return " ".join(facts.get(key, "?") for key in wanted)
