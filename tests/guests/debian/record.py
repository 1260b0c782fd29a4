"""Runs the command lines on the host and writes what they did: `python -m tests.guests.debian.record` runs those that
are not recorded yet, with `--all` every one. Needs root, for chroot and mounts; the root of programs is hard-linked,
not changed. Lines see the host's processes: what they end, they name by their own shell's id."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from tests.debian import debian_root
from tests.guests.debian.commands import (
    ENVIRONMENT,
    EXECUTABLE,
    FILES,
    HARD_LINKS,
    LINKS,
    RECORDED,
    Outcome,
    commands,
    described,
    outcome,
    recorded,
)
from tests.native import _default_signals


def main() -> int:
    """Record what is asked for; 0, or 1 where there is no root of programs."""
    source = debian_root()
    known = {} if "--all" in sys.argv[1:] else recorded()
    if source is None:
        print("python tests/debian.py first", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(dir=source.parent) as directory:
        root = Path(directory) / "root"
        subprocess.run(["cp", "-al", source, root], check=True)
        for place, kind in (("proc", "proc"), ("dev", "")):
            command = ["mount", "-t", kind, kind] if kind else ["mount", "--bind", "/dev"]
            subprocess.run([*command, root / place], check=True)
        try:
            outcomes = {line: known[line] if line in known else run(root, line) for line in commands()}
        finally:
            for place in ("proc", "dev"):
                subprocess.run(["umount", root / place], check=True)
    RECORDED.write_text(json.dumps(outcomes, indent=0, ensure_ascii=True) + "\n")
    print(f"{len(outcomes)} command lines")
    return 0


def run(root: Path, line: str) -> Outcome:
    """Run one command line among fresh files."""
    for name in ("work", "tmp"):
        shutil.rmtree(root / name, ignore_errors=True)
        (root / name).mkdir()
        (root / name).chmod(0o1777)
    work = root / "work"
    for name, content in FILES.items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(content)
    for name, target in LINKS.items():
        (work / name).symlink_to(target)
    for name, target in HARD_LINKS.items():
        (work / name).hardlink_to(work / target)
    for name in EXECUTABLE:
        (work / name).chmod(0o755)
    answer = _in(root, line)
    return outcome(answer.returncode, answer.stdout, answer.stderr, dict(_files(work)))


def _files(work: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(work.rglob("*")):
        name, mode = str(path.relative_to(work)), path.lstat().st_mode
        content = path.read_bytes() if stat.S_ISREG(mode) else b""
        yield name, described(name, mode, _leads_to(path, work) if stat.S_ISLNK(mode) else "", content)


def _leads_to(path: Path, work: Path) -> str:
    return str(PurePosixPath("/work", path.parent.relative_to(work), os.readlink(path)))


def _in(root: Path, line: str) -> subprocess.CompletedProcess[bytes]:
    def enter() -> None:
        os.chroot(root)
        os.chdir("/work")
        os.setsid()
        os.umask(0o022)
        _default_signals()

    return subprocess.run(
        ["/bin/bash", "-c", line],
        env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, check=False, preexec_fn=enter, timeout=60,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
