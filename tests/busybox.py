"""Fetches busybox-static for i386 with apt-get into the cache: `python tests/busybox.py`. No root, no system change.

apt-get gets lists, cache and architecture of its own, so that the host's stay as they are. A mirror in the middle of a
sync makes `update` fail for a suite: that is retried, and the download tried with what there is.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, os.fspath(Path(__file__).parents[1]))

from tests.native import cache_directory

TRIES = 3
PAUSE_S = 5.0


def fetch(target: Path) -> None:
    """Put the program at `target`. Raises RuntimeError with apt-get's own words, OSError where there is no apt-get."""
    with tempfile.TemporaryDirectory() as directory:
        where = Path(directory)
        for part in ("lists/partial", "cache/archives/partial", "root"):
            (where / part).mkdir(parents=True)
        options = [
            "-o", "APT::Architecture=i386", "-o", "APT::Architectures=i386", "-o", "APT::Sandbox::User=",
            "-o", f"Dir::State::lists={where}/lists", "-o", f"Dir::Cache={where}/cache", "-o", "Acquire::Retries=3",
        ]  # fmt: skip
        said = ""
        for attempt in range(TRIES):
            if attempt:
                time.sleep(PAUSE_S)
            update = _run(["apt-get", *options, "update"], where)
            download = _run(["apt-get", *options, "download", "busybox-static"], where)
            said = update.stdout + download.stdout
            packages = list(where.glob("busybox-static*.deb"))
            if packages:
                subprocess.run(["dpkg-deb", "-x", packages[0], where / "root"], check=True)
                _copy(next((where / "root").glob("**/bin/busybox")), target)
                return
        raise RuntimeError(f"apt-get did not give busybox-static for i386:\n{said}")


def _run(command: list[str], directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=300
    )


def _copy(source: Path, target: Path) -> None:
    unfinished = target.with_suffix(".part")
    unfinished.write_bytes(source.read_bytes())
    unfinished.chmod(0o755)
    unfinished.rename(target)


def main() -> int:
    """Fetch unless it is there; 0 when it is there at the end."""
    target = cache_directory() / "busybox"
    if not target.is_file():
        try:
            fetch(target)
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            print(error, file=sys.stderr)
            return 1
    print(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
