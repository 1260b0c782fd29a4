"""Runs a pipeline of three machines again and again with one seed on the virtual clock, and hashes every system call of
all three in the order in which they happened: `python -m tests.runtime.campaign_same_run [--count N] [PIPELINE...]`.

The runs are dealt out over processes with different PYTHONHASHSEED, over both event loops and over three ways to
execute. Exits with 1 where there is more than one hash for one pipeline.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import anyio.lowlevel

from aiopyvm import VM
from aiopyvm.engine.python import PythonEngine
from aiopyvm.runtime import machine
from tests.native import busybox_path

GUESTS = Path(__file__).parents[2] / "guests" / "bin"
ENGINES = ("python", "evaluator", "fresh")  # `fresh`: an engine in which nothing is warm yet
LOOPS = ("asyncio", "trio")
HASH_SEEDS = 8

Stages = list[list[str | Path]]


def pipelines(busybox: Path | None) -> dict[str, Stages]:
    """The pipelines by name; `fed` reads what Python sends now and then."""
    found: dict[str, Stages] = {
        "guests": [[GUESTS / "seq", "200"], [GUESTS / "sort", "-rn"], [GUESTS / "head", "-5"]],
        "fed": [[GUESTS / "cat"], [GUESTS / "sort", "-rn"], [GUESTS / "head", "-3"]],
    }
    if busybox is not None:
        script = "seq 40; date +%s; sleep 0.01; echo $$ | tr 0-9 a-j"
        found["busybox"] = [[busybox, "seq", "200"], [busybox, "sort", "-rn"], [busybox, "head", "-5"]]
        found["shell"] = [[busybox, "sh", "-c", script], [busybox, "sort", "-r"], [busybox, "md5sum"]]
    return found


async def transcript(stages: Stages, engine: str, *, fed: bool, seed: int = 7) -> tuple[str, bytes]:
    """Run the pipeline; return the hash of all its system calls, and what it wrote."""
    if engine == "fresh":
        machine._engines["python"] = PythonEngine()
        engine = "python"
    digest = hashlib.sha256()
    output = b""
    vm = VM(seed=seed, clock="virtual", quantum=2_000, engine=engine)
    async with vm.pipeline(
        *stages, stdin=_feed() if fed else b"", strace=lambda line: digest.update(line.encode() + b"\n")
    ) as pipeline:
        async for chunk in pipeline.stdout:
            output += chunk
    results = [(str(r.reason), r.returncode, r.instructions) for r in pipeline.results]
    digest.update(repr((results, output)).encode())
    return digest.hexdigest(), output


async def _feed() -> AsyncIterator[bytes]:
    for i in range(20):
        yield b"%d\n" % (i * 7919 % 1000)
        for _ in range(i % 4):
            await anyio.lowlevel.checkpoint()


def _deal(first: int, count: int, stride: int, named: dict[str, Stages]) -> dict[str, Counter[str]]:
    """Run this process's share."""
    hashes: dict[str, Counter[str]] = {name: Counter() for name in named}
    for i in range(first, count, stride):
        turn = i // stride
        loop = LOOPS[turn % 2]
        engine = ENGINES[1 if turn % 25 == 4 else 2 if turn % 10 == 7 else 0]  # the evaluator is slow
        for name, stages in named.items():

            async def run(stages: Stages = stages, fed: bool = name == "fed", engine: str = engine) -> str:
                return (await transcript(stages, engine, fed=fed))[0]

            hashes[name][anyio.run(run, backend=loop)] += 1
    return hashes


def main() -> int:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--busybox", type=Path, default=busybox_path())
    parser.add_argument("--share", type=int, help=argparse.SUPPRESS)
    parser.add_argument("names", nargs="*", metavar="PIPELINE", help="guests, fed, busybox, shell; default: all")
    arguments = parser.parse_args()
    named = pipelines(arguments.busybox)
    named = {name: named[name] for name in arguments.names or named}
    if arguments.share is not None:
        print(json.dumps(_deal(arguments.share, arguments.count, HASH_SEEDS, named)))
        return 0
    total: dict[str, Counter[str]] = {}
    for share in range(HASH_SEEDS):
        command = [sys.executable, "-m", "tests.runtime.campaign_same_run", "--share", str(share)]
        command += ["--count", str(arguments.count), *named]
        command += ["--busybox", str(arguments.busybox)] if arguments.busybox else []
        environment = {**os.environ, "PYTHONHASHSEED": str(share)}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
        for name, hashes in json.loads(done.stdout).items():
            total.setdefault(name, Counter()).update(hashes)
    for name, hashes in total.items():
        print(f"{name}: {sum(hashes.values())} runs, {len(hashes)} hash(es): {', '.join(hashes)}")
    return int(any(len(hashes) != 1 for hashes in total.values()))


if __name__ == "__main__":
    sys.exit(main())
