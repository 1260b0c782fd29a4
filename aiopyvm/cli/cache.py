"""`aiopyvm cache`: the compiled code that is kept on disk."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from aiopyvm.engine.native.cache import ObjectCache, object_cache

KINDS: Final = {"aot": "handlers made ahead of time", "program": "what programs had translated", "region": "hot code"}


def cache_command(arguments: Any) -> int:
    """Do what `arguments.action` says. Raises HostRefusedError (no usable directory), EngineUnavailableError (warm)."""
    cache = object_cache()
    match arguments.action:
        case "path":
            print(cache.root)
        case "clear":
            print(f"removed {_files(cache.clear())} from {cache.root}")
        case "warm":
            _warm(cache)
        case _:
            _show(cache)
    return 0


def _show(cache: ObjectCache) -> None:
    """Print what is there, by kind, and whether this version's handlers are among it."""
    entries = cache.entries()
    total = sum(entry.size for entry in entries)
    print(f"{cache.root}: {_files(len(entries))}, {_kib(total)} of at most {cache.max_bytes >> 20} MiB")
    counts, sizes = Counter[str](), Counter[str]()
    for entry in entries:
        kind = entry.name.partition("-")[0]
        counts[kind] += 1
        sizes[kind] += entry.size
    for kind in sorted(counts):
        print(f"  {KINDS.get(kind, kind)}: {_files(counts[kind])}, {_kib(sizes[kind])}")
    print(_state({entry.name for entry in entries}))


def _state(names: set[str]) -> str:
    from aiopyvm.engine.native.aot import name
    from aiopyvm.engine.native.cachekey import llvmlite_version
    from aiopyvm.engine.native.codearena import unsupported
    from aiopyvm.errors import EngineUnavailableError

    try:
        reason = unsupported()
        if reason is not None:
            raise EngineUnavailableError(reason)
        version = llvmlite_version()
        warm = name() in names
    except EngineUnavailableError as error:
        return f"the native engine is not available: {error}"
    return f"{'warm' if warm else 'cold'} for this version, this processor and llvmlite {version}"


def _warm(cache: ObjectCache) -> None:
    """Have made what a first run would have made in the background."""
    from aiopyvm.engine.native.aot import ahead_of_time

    cache.check()
    found = ahead_of_time()
    loaded = found.wait()
    size = f"{len(loaded.symbols)} functions, {_kib(loaded.size)}"
    if found.from_cache:
        print(f"warm already: {size}")
    elif found.kept:
        print(f"built in {found.build_seconds:.1f} s: {size}")
    else:
        raise OSError(None, "what was built could not be written", str(cache.root))


def _files(count: int) -> str:
    return f"{count} file" if count == 1 else f"{count} files"


def _kib(size: int) -> str:
    return f"{-(-size // 1024)} KiB"
