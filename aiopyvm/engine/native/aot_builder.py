"""Builds the object that is made ahead of time, in a process that may outlive the one that wanted it.

Run by path (`python -P aot_builder.py JSON`, the fields of `detached.Order`). It compiles, links and puts the image
into the cache, and ends: nobody has to be there any more. Its exit status and what it wrote to stderr are for a parent
that still waits. It sets limits to itself; it has a session of its own, and no descriptor but the standard ones and the
cache's lock, which ends with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from aiopyvm.engine.native.detached import Order

# Passes that find nothing to do in handlers, which are short and have no loops: a sixth of the time.
_WITHOUT: Final = (
    "-enable-misched=false",
    "-disable-post-ra",
    "-disable-lsr",
    "-disable-machine-licm",
    "-disable-early-taildup",
    "-disable-early-ifcvt",
)
REFUSED: Final = 70  # exit status: the reason is on stderr
NOT_KEPT: Final = 71  # exit status: built, but the cache could not take it


def _limit(order: Order) -> None:
    """Bound this process, whatever it inherited; SIGXCPU, SIGALRM or a MemoryError end it."""
    signals = (signal.SIGXCPU, signal.SIGALRM, signal.SIGTERM, signal.SIGPIPE)
    for number in signals:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
    signal.alarm(order["wall_seconds"])
    for kind, wanted in (
        (resource.RLIMIT_AS, order["memory"]), (resource.RLIMIT_CPU, order["cpu_seconds"]), (resource.RLIMIT_CORE, 0),
    ):  # fmt: skip
        most = resource.getrlimit(kind)[1]
        limit = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
        resource.setrlimit(kind, (limit, most))
    os.umask(0o077)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # when the host is out of memory, this process goes first


def build(order: Order) -> int:
    """Build what is ordered and keep it; the exit status."""
    from aiopyvm.engine.native.aot import pack_image
    from aiopyvm.engine.native.cache import ObjectCache
    from aiopyvm.engine.native.codearena import FIXED_START
    from aiopyvm.engine.native.compile_worker import Builder, make_text
    from aiopyvm.engine.native.objectfile import BadObjectError, ObjectFile

    try:
        text = make_text(order["generator"], "")
        data = Builder(_WITHOUT).build(text, {"codegen": order["codegen"], "level": None, "passes": ()})
    except MemoryError:
        print("generated code cannot be compiled: out of memory", file=sys.stderr)
        return REFUSED
    except Exception as problem:
        print(f"generated code cannot be compiled: {type(problem).__name__}: {str(problem)[:4000]}", file=sys.stderr)
        return REFUSED
    try:
        image = pack_image(ObjectFile(data).link(FIXED_START, {}))
    except BadObjectError as error:
        print(f"generated code cannot be loaded: {error}", file=sys.stderr)
        return REFUSED
    return 0 if ObjectCache(order["root"]).put(order["name"], image) else NOT_KEPT


def main(arguments: Sequence[str]) -> int:
    """Do what `arguments[0]` orders."""
    order: Order = json.loads(arguments[0])
    _limit(order)
    sys.path += [path for path in order["paths"] if path not in sys.path]
    return build(order)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
