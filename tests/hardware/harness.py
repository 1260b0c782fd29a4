"""Runs cases on the real CPU, through the small 32-bit program of guests/harness.

A batch is one process: its input is all records, its output all states. When it dies in the middle (a case wrote into
the harness itself, or ran for ever), the case that it was at is reported as `None` and the rest runs in a new process.
"""

from __future__ import annotations

import functools
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tests.hardware.wire import Case, State, split_records

HARNESS = Path(__file__).parents[2] / "guests" / "bin" / "harness"
TIMEOUT_S = 60.0


@functools.cache
def available() -> bool:
    """Whether this host runs 32-bit x86 programs and the harness answers."""
    try:
        states = _run_once([Case(b"\x90").pack()])
    except OSError:
        return False
    return len(states) == 1


def run_cases(cases: Iterable[Case], batch: int = 20_000) -> Iterator[State | None]:
    """Yield the state after each case, in order; None where the case killed the harness (or ran for ever).

    Raises RuntimeError when this host cannot run the harness.
    """
    if not available():
        raise RuntimeError("this host does not run 32-bit x86 programs")
    pending: list[bytes] = []
    for case in cases:
        pending.append(case.pack())
        if len(pending) >= batch:
            yield from _run_batch(pending)
            pending = []
    yield from _run_batch(pending)


def _run_batch(records: Sequence[bytes]) -> Iterator[State | None]:
    while records:
        states = _run_once(records)
        for record in states:
            yield State.unpack(record)
        if len(states) < len(records):
            # The harness writes in blocks: go on one by one until the case that it died of is passed.
            yield from _run_until_lost(records := records[len(states) :])
            records = records[_lost_at(records) + 1 :]
        else:
            return


def _run_until_lost(records: Sequence[bytes]) -> Iterator[State | None]:
    for record in records[: _lost_at(records) + 1]:
        states = _run_once([record])
        yield State.unpack(states[0]) if states else None


@functools.lru_cache(maxsize=1)
def _lost_at_cached(records: tuple[bytes, ...]) -> int:
    low, high = 0, len(records) - 1  # some prefix of records[: high + 1] kills the harness
    while low < high:
        middle = (low + high) // 2
        if len(_run_once(records[: middle + 1])) == middle + 1:
            low = middle + 1
        else:
            high = middle
    return low


def _lost_at(records: Sequence[bytes]) -> int:
    return _lost_at_cached(tuple(records))


def _run_once(records: Sequence[bytes]) -> list[bytes]:
    """Return the states that one process wrote; fewer than `records` when it died."""
    with tempfile.TemporaryFile() as requests:
        requests.write(b"".join(records))
        requests.seek(0)
        process = subprocess.Popen([HARNESS], stdin=requests, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            output, _ = process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
    return _whole_records(output)


def _whole_records(output: bytes) -> list[bytes]:
    end = at = 0
    while at + 4 <= len(output):
        at += int.from_bytes(output[at : at + 4], "little")
        if at > len(output):
            break
        end = at
    return list(split_records(output[:end]))
