"""Fetches busybox-static for i386 into the cache: `python tests/busybox.py`; see `apt.py`."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, os.fspath(Path(__file__).parents[1]))

from tests.apt import unpack
from tests.native import cache_directory


def fetch(target: Path) -> None:
    """Put the program at `target`. Raises RuntimeError with apt-get's own words, OSError where there is no apt-get."""
    with tempfile.TemporaryDirectory() as directory:
        where = Path(directory)
        unpack(["busybox-static"], where, where / "root")
        unfinished = target.with_suffix(".part")
        unfinished.write_bytes(next((where / "root").glob("**/bin/busybox")).read_bytes())
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
