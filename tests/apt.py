"""Fetches Debian's i386 packages with apt-get. No root, no system change.

apt-get gets lists, cache, status and architecture of its own, so that the host's stay as they are and no package counts
as installed. A mirror in the middle of a sync makes `update` fail for a suite: that is retried, and the download tried
with what there is.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

TRIES = 3
PAUSE_S = 5.0


def unpack(packages: Sequence[str], where: Path, root: Path, *, dependencies: bool = False) -> None:
    """Unpack `packages` (with `dependencies`: and what they need) into `root`; `where` is a directory to work in.

    Raises RuntimeError with apt-get's own words, OSError where there is no apt-get, SubprocessError.
    """
    for part in ("lists/partial", "cache/archives/partial", "root"):
        (where / part).mkdir(parents=True, exist_ok=True)
    (where / "status").touch()
    options = [
        "-q", "-y", "-o", "APT::Architecture=i386", "-o", "APT::Architectures=i386", "-o", "APT::Sandbox::User=",
        "-o", f"Dir::State::lists={where}/lists", "-o", f"Dir::State::status={where}/status",
        "-o", f"Dir::Cache={where}/cache", "-o", "Acquire::Retries=3", "-o", "Acquire::Languages=none",
    ]  # fmt: skip
    verb = ["install", "--download-only", "--no-install-recommends"] if dependencies else ["download"]
    said = ""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PAUSE_S)
        update = _run(["apt-get", *options, "update"], where)
        download = _run(["apt-get", *options, *verb, *packages], where)
        said = update.stdout + download.stdout
        files = sorted([*where.glob("*.deb"), *where.glob("cache/archives/*.deb")])
        if download.returncode == 0 and files:
            for file in files:
                subprocess.run(["dpkg-deb", "-x", file, root], check=True)
            return
    raise RuntimeError(f"apt-get did not give {' '.join(packages)} for i386:\n{said}")


def _run(command: Sequence[str], directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=300
    )
