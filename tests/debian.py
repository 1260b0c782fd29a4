"""A root directory of Debian i386 programs in the cache: `python tests/debian.py` fetches it; see `apt.py`.

The packages are unpacked, not installed: what their scripts would have made (alternatives, users) is made here. The
directory is named after this recipe, so that a change of it fetches anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, os.fspath(Path(__file__).parents[1]))

from tests.apt import unpack
from tests.native import cache_directory

PACKAGES = (
    "base-files", "base-passwd", "bash", "bsdextrautils",
    "bzip2", "coreutils", "dash", "debianutils", "diffutils", "file", "findutils",
    "gawk", "grep", "gzip", "libc-bin", "libc6-dev", "lua5.4", "m4", "make", "mawk", "netcat-openbsd", "patch",
    "procps", "python3", "sed", "sqlite3", "strace", "tar", "tcc", "util-linux", "xz-utils", "bc",
)  # fmt: skip
LINKS = {
    "bin/sh": "dash",
    "usr/bin/awk": "mawk",
    "usr/bin/cc": "tcc",
    "usr/bin/lua": "lua5.4",
    "usr/bin/nc": "/bin/nc.openbsd",
}
COPIES = {
    "etc/passwd": "usr/share/base-passwd/passwd.master",
    "etc/group": "usr/share/base-passwd/group.master",
    "etc/nsswitch.conf": "usr/share/libc-bin/nsswitch.conf",
}


def debian_root() -> Path | None:
    """Return the root: $AIOPYVM_DEBIAN, or what was fetched; None where neither is."""
    given = os.environ.get("AIOPYVM_DEBIAN")
    path = Path(given) if given else _target()
    return path if path.is_dir() else None


def _target() -> Path:
    recipe = repr((PACKAGES, LINKS, COPIES, "ldconfig")).encode()
    return cache_directory() / f"debian-{hashlib.sha256(recipe).hexdigest()[:16]}"


def fetch(target: Path) -> None:
    """Make the root at `target`. Raises RuntimeError with apt-get's own words, OSError where there is no apt-get."""
    with tempfile.TemporaryDirectory(dir=target.parent) as directory:
        where = Path(directory)
        root = where / "root"
        root.mkdir(mode=0o755)
        unpack(PACKAGES, where, root, dependencies=True)
        for path, to in LINKS.items():
            if not os.path.lexists(root / path):
                (root / path).symlink_to(to)
        for path, source in COPIES.items():
            if (root / source).is_file() and not (root / path).exists():
                shutil.copyfile(root / source, root / path)
        for name in ("dev", "proc", "sys", "tmp", "root", "home"):
            (root / name).mkdir(exist_ok=True)
        _index_libraries(root)
        root.rename(target)


def _index_libraries(root: Path) -> None:
    """Make /etc/ld.so.cache, as the installation of libc-bin does; without it ld.so looks in every directory."""
    with contextlib.suppress(FileNotFoundError):
        done = subprocess.run(["/sbin/ldconfig", "-r", os.fspath(root)], capture_output=True, text=True, check=False)
        if done.returncode:  # it needs the right to chroot
            print(f"no ld.so.cache: {done.stderr.strip()}", file=sys.stderr)


def main() -> int:
    """Fetch unless it is there; 0 when it is there at the end."""
    target = _target()
    if debian_root() is None:
        try:
            fetch(target)
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            print(error, file=sys.stderr)
            return 1
    print(debian_root())
    return 0


if __name__ == "__main__":
    sys.exit(main())
