"""The host's clock for generated code: RDTSC asks it where a machine's time is the host's (`Core.counter_zero`)."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Final

CLOCK_MONOTONIC: Final = 1  # Linux


@cache
def clock_function() -> int:
    """The address of the host's clock_gettime(2), which writes two words of 64 bits; 0: there is none.

    It waits for nothing, and keeps to the C convention: what `time.monotonic_ns` asks, too.
    """
    if sys.platform != "linux" or sys.maxsize < 1 << 32:
        return 0
    function = getattr(ctypes.CDLL(None), "clock_gettime", None)
    return (ctypes.cast(function, ctypes.c_void_p).value or 0) if function is not None else 0
