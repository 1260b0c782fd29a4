"""Paths by which a guest might reach what it was not given, and a machine that tries them:
`python -m tests.files.escape COUNT SEED` (run it under the host's strace to see from outside what it opens)."""

from __future__ import annotations

import os
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import anyio

from aiopyvm import VM, HostDir, Limits
from tests.native import glibc_path

SECRET = b"not for guests: 5cc3a1"
UPS = (
    "..",
    "../..",
    "../../../../../../..",
    "a/../..",
    "./..",
    "..//..",
    ".../..",
    "..\\..",
    "%2e%2e",
    "..\xff",
    "..;",
)
BASES = (
    "", "/", "/g", "/g/in", "/g/out", "/g/up", "/g/loop", "/g/chain", "/g/deep/deep", "/proc/self/root",
    "/proc/self/cwd", "/proc/1/root", "/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/exe", "/proc/self/task/1/root",
    "/proc/thread-self/cwd", "/dev/fd", "/dev/fd/0", "/dev/stdin", "/dev", "/proc", "/sys", "/ro", "/ro/up", "/cow",
    "/cow/out", "/proc/self/ns/mnt", "/proc/self/map_files", "/proc/self/mem",
)  # fmt: skip
ENDS = ("secret", "etc/passwd", "etc/shadow", "proc/self/environ", "root/.bashrc", "dev/mem", "")


def written(directory: Path) -> list[str]:
    """Paths that were thought of: each base with each way up and each end, where `directory` is what was granted."""
    outside = str(directory.parent)
    ends = (*ENDS, outside.lstrip("/") + "/secret")
    found = [f"{base}/{up}/{end}" for base in BASES for up in UPS[:4] for end in ends]
    found += [f"{base}/{end}" for base in BASES for end in ends]
    return ["/g/in/file", "/ro/in/file", *found, f"{outside}/secret", "/" + "x" * 300, "x/" * 2500, "\n", "..\n/secret"]


def generated(directory: Path, count: int, seed: int) -> Iterator[str]:
    """`count` paths put together at random from the same parts."""
    rng = random.Random(seed)
    parts = (
        *BASES,
        *UPS,
        *ENDS,
        str(directory.parent),
        "g",
        "in",
        "out",
        "up",
        "link",
        ".",
        "",
        "~",
        "$HOME",
        "*",
        "secret",
    )
    for _ in range(count):
        text = "/".join(rng.choice(parts) for _ in range(rng.randrange(1, 7)))
        if rng.random() < 0.1:
            at = rng.randrange(len(text) + 1)
            text = text[:at] + chr(rng.randrange(1, 256)) + text[at:]
        yield text if rng.random() < 0.3 else "/" + text


def grant(top: Path) -> Path:
    """Make what is granted, with links that lead out of it, beside a secret; return the granted directory."""
    granted = top / "granted"
    (granted / "in").mkdir(parents=True)
    (granted / "deep" / "deep").mkdir(parents=True)
    (granted / "in" / "file").write_bytes(b"for guests")
    (top / "secret").write_bytes(SECRET)
    links = {
        "out": str(top),
        "up": "..",
        "loop": "loop",
        "chain": "up/../up",
        "link": "../secret",
        "deep/out": "../../..",
    }
    for name, target in {**links, "in/out": str(top / "secret")}.items():
        (granted / name).symlink_to(target)
    return granted


async def attempt(granted: Path, paths: list[str]) -> bytes:
    """Let a guest try `paths` as root, over the three kinds of mounts; what it could read."""
    program = glibc_path("escape")
    assert program is not None
    mounts = {"/g": HostDir(granted, "rw"), "/ro": HostDir(granted), "/cow": HostDir(granted, "cow")}
    vm = VM(mounts=mounts, user=0, limits=Limits(output=1 << 30))
    text = b"".join(os.fsencode(path) + b"\0" for path in paths if "\0" not in path)
    result = await vm.run_elf(program, stdin=text)
    assert result.ok, result
    return result.stdout or b""


def main() -> int:
    """Try all; 1 where a guest has read the secret."""
    count, seed = int(sys.argv[1]), int(sys.argv[2])
    with tempfile.TemporaryDirectory() as directory:
        granted = grant(Path(directory))
        paths = [*written(granted), *generated(granted, count, seed)]
        said = anyio.run(attempt, granted, paths)
        safe = SECRET not in said and (Path(directory) / "secret").read_bytes() == SECRET
        print(f"{len(paths)} paths, {len(said)} bytes read, {'nothing of the secret' if safe else 'THE SECRET'}")
    return 0 if safe else 1


if __name__ == "__main__":
    sys.exit(main())
