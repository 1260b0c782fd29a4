"""`Process.ask`: a question to an interactive guest, and all that it answers before it waits for input again.

How it works. Input is written and output is taken in turns, so that neither pipe can fill up and stop the guest. The
answer is complete when all input was read, a thread waits for more, and nothing else of the guest can run: what it
wrote is then in the pipe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from aiopyvm.runtime.waits import waits_at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiopyvm.runtime.ends import ReceiveEnd, SendEnd
    from aiopyvm.runtime.run import Run


async def ask(runs: Sequence[Run], stdin: SendEnd | None, stdout: ReceiveEnd | None, data: bytes) -> bytes:
    """Send `data`; return what comes back until the guest waits for input, or ends. Raises ValueError without both
    pipes."""
    if stdin is None or stdout is None:
        raise ValueError("ask() needs stdin=PIPE and stdout=PIPE")
    await anyio.lowlevel.checkpoint()
    answer: list[bytes] = []
    left = bytes(data)
    while True:
        try:
            if left:
                left = left[stdin.send_nowait(left) :]
        except anyio.BrokenResourceError:
            left = b""  # it reads no more: what it still writes is the answer
        if _take(stdout, answer) or all(run.result is not None for run in runs):
            return b"".join(answer)
        if not left and _waits_for_input(runs, stdin):
            return b"".join(answer)
        await _change(runs, stdin, stdout, bool(left))


def _take(stdout: ReceiveEnd, answer: list[bytes]) -> bool:
    """Take all that is there; True at the end of the stream."""
    try:
        while (chunk := stdout.receive_nowait()) is not None:
            answer.append(chunk)
    except anyio.EndOfStream:
        return True
    return False


def _waits_for_input(runs: Sequence[Run], stdin: SendEnd) -> bool:
    return stdin.drained and waits_at(runs[0], stdin.reading_queue) and not any(run.ready for run in runs)


async def _change(runs: Sequence[Run], stdin: SendEnd, stdout: ReceiveEnd, wants_room: bool) -> None:
    """Wait until something may have changed."""
    event = anyio.Event()
    queues = [stdout.waiting_queue] + ([stdin.waiting_queue] if wants_room else [])
    for queue in queues:
        queue.listeners[event.set] = None
    for run in runs:
        run.on_park.append(event.set)
        run.when_done(event.set)
    try:
        await event.wait()
    finally:
        for queue in queues:
            del queue.listeners[event.set]
        for run in runs:
            run.on_park.remove(event.set)
            run.not_when_done(event.set)
