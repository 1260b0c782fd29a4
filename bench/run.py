"""Measures aiopyvm and prints a table; `python bench/run.py [--json FILE] [--quick] [NAME...]`.

Names: guests, native, checked, cold, floats, strings, startup, busybox, debian, server, machines, memory, pipes,
pingpong, latency, fairness, workers. Where qemu-i386 or Unicorn are installed they run the same guests, beside the
host itself. Figures depend on the machine: compare ratios, and only those of one run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, os.fspath(Path(__file__).parents[1]))

from bench import (
    busybox,
    debian,
    fairness,
    floats,
    guests,
    latency,
    machines,
    native,
    server,
    startup,
    streams,
    strings,
    workers,
)
from bench.table import Row, show

BENCHMARKS: dict[str, Callable[[bool], list[Row]]] = {
    "guests": guests.measure,
    "native": native.measure,
    "checked": native.measure_checked,
    "cold": native.measure_cold,
    "floats": floats.measure,
    "strings": strings.measure,
    "startup": startup.measure,
    "busybox": busybox.measure,
    "debian": debian.measure,
    "server": server.measure,
    "machines": machines.measure_rate,
    "memory": machines.measure_memory,
    "pipes": streams.measure_throughput,
    "pingpong": streams.measure_ping_pong,
    "latency": latency.measure,
    "fairness": fairness.measure,
    "workers": workers.measure,
}


def main() -> int:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="smaller sizes: figures are rougher")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(BENCHMARKS):
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}")
    rows: list[Row] = []
    for name in arguments.names or BENCHMARKS:
        found = BENCHMARKS[name](arguments.quick)
        show(name, found)
        rows += found
    if arguments.json:
        facts = {
            "python": sys.version,
            "machine": platform.machine(),
            "system": platform.platform(),
            "quick": arguments.quick,
        }
        arguments.json.write_text(json.dumps({"host": facts, "figures": [row.as_dict() for row in rows]}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
