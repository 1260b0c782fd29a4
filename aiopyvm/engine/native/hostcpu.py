"""What this host's processor has: its flags as Linux names them. What is generated here runs here."""

from __future__ import annotations

import functools
import platform
from typing import Final

HAS_X86: Final = platform.machine().lower() in ("x86_64", "amd64")


@functools.cache
def flags() -> frozenset[str]:
    """The processor's flags (proc_cpuinfo(5)); none where there is no such file."""
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("flags"):
                    return frozenset(line.partition(":")[2].split())
    except OSError:
        pass  # nothing is assumed
    return frozenset()


def has(*names: str) -> bool:
    """Tell whether this host is x86-64 and has all these flags."""
    return HAS_X86 and flags().issuperset(names)


__all__ = ["HAS_X86", "flags", "has"]
