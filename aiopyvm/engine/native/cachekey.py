"""What generated code depends on, as one digest: the sources that generate it, LLVM, this host's processor.

Found without importing llvmlite. Whoever adds a file that has no say in what is generated may name it in `_NO_SAY`:
then a change there does not make everybody compile again.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import re
from collections.abc import Iterator
from typing import Final

from aiopyvm.errors import EngineUnavailableError

_PACKAGE: Final = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_SOURCES: Final = ("ir", "isa", "engine", "mem/layout.py")
_NO_SAY: Final = frozenset(
    {"aot.py", "cache.py", "cachekey.py", "codearena.py", "detached.py", "objectfile.py", "worker.py"}
)
_CPU_FIELDS: Final = ("vendor_id", "cpu family", "model", "model name", "stepping", "flags", "Features")


@functools.cache
def toolchain_key() -> bytes:
    """Return a SHA-256 digest of all that compiled code depends on. Raises EngineUnavailableError without llvmlite."""
    digest = hashlib.sha256()
    for part in (_llvm(), _processor(), _sources()):
        digest.update(hashlib.sha256(part).digest())
    return digest.digest()


def name_of(kind: str, *parts: bytes) -> str:
    """Return the name in the cache for what depends on the toolchain and on `parts`. `kind`: small letters."""
    digest = hashlib.sha256(toolchain_key())
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    return f"{kind}-{digest.hexdigest()}"


def llvmlite_version() -> str:
    """Return the version of the llvmlite that is installed, without importing it. Raises EngineUnavailableError."""
    found = re.search(r"""version['"]?\s*[:=]\s*['"]([^'"]+)""", _llvm().decode(errors="replace"))
    return found[1] if found else "unknown"


def _llvm() -> bytes:
    spec = importlib.util.find_spec("llvmlite")
    if spec is None or spec.origin is None:
        raise EngineUnavailableError("llvmlite is not installed")
    home = os.path.dirname(spec.origin)
    try:
        with os.scandir(os.path.join(home, "binding")) as binding:
            library = max((entry.stat().st_size for entry in binding if "llvmlite." in entry.name), default=0)
        with open(os.path.join(home, "_version.py"), "rb") as file:
            return file.read() + b"%d" % library
    except OSError as error:
        raise EngineUnavailableError(f"llvmlite is not whole: {error}") from None


def _processor() -> bytes:
    """Return what tells this host's processor, and with it what LLVM makes of it, from others."""
    lines = [os.uname().machine, os.uname().sysname]
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if not line.strip():
                    break  # the first processor stands for all
                if line.split(":")[0].strip() in _CPU_FIELDS:
                    lines.append(line)
    except OSError:
        pass  # nothing else tells
    return "".join(lines).encode()


def _sources() -> bytes:
    digest = hashlib.sha256()
    for path in sorted(_files()):
        with open(path, "rb", buffering=0) as file:
            content = file.read()
        digest.update(f"{path[len(_PACKAGE) :]}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.digest()


def _files() -> Iterator[str]:
    """Yield the paths of all files that have a say."""
    named = [os.path.join(_PACKAGE, name) for name in _SOURCES]
    todo = [path for path in named if os.path.isdir(path)]
    yield from (path for path in named if os.path.isfile(path))
    while todo:
        with os.scandir(todo.pop()) as entries:
            for entry in entries:
                if entry.is_dir() and entry.name != "__pycache__":
                    todo.append(entry.path)
                elif entry.is_file() and entry.name not in _NO_SAY:
                    yield entry.path
