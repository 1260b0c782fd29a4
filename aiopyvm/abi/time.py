"""Time structures and clocks of Linux i386, 32-bit and time64 forms (time(7), clock_gettime(2), setitimer(2))."""

from typing import Final, NamedTuple

from aiopyvm.abi.layout import layout

NS: Final = 1_000_000_000
TICK_NS: Final = 10_000_000  # USER_HZ is 100

CLOCK_REALTIME: Final = 0
CLOCK_MONOTONIC: Final = 1
CLOCK_PROCESS_CPUTIME_ID: Final = 2
CLOCK_THREAD_CPUTIME_ID: Final = 3
CLOCK_MONOTONIC_RAW: Final = 4
CLOCK_REALTIME_COARSE: Final = 5
CLOCK_MONOTONIC_COARSE: Final = 6
CLOCK_BOOTTIME: Final = 7
CLOCK_REALTIME_ALARM: Final = 8
CLOCK_BOOTTIME_ALARM: Final = 9
CLOCK_TAI: Final = 11
CLOCK_NAMES: Final[dict[int, str]] = {
    value: name for name, value in list(globals().items()) if name.startswith("CLOCK_")
}

TIMER_ABSTIME: Final = 1
ITIMER_REAL: Final = 0
ITIMER_VIRTUAL: Final = 1
ITIMER_PROF: Final = 2


@layout("<ii")
class Timespec32(NamedTuple):
    """struct old_timespec32."""

    tv_sec: int
    tv_nsec: int


@layout("<qq")
class Timespec64(NamedTuple):
    """struct __kernel_timespec, as the time64 calls take it (the padding after 32 bits of tv_nsec is not looked at)."""

    tv_sec: int
    tv_nsec: int


@layout("<ii")
class Timeval32(NamedTuple):
    """struct old_timeval32."""

    tv_sec: int
    tv_usec: int


@layout("<ii")
class Timezone(NamedTuple):
    """struct timezone."""

    tz_minuteswest: int
    tz_dsttime: int


@layout("<iiii")
class Itimerval(NamedTuple):
    """struct old_itimerval32."""

    interval_sec: int
    interval_usec: int
    value_sec: int
    value_usec: int


def split_ns(ns: int) -> tuple[int, int]:
    """Return `ns` as (seconds, nanoseconds)."""
    return divmod(ns, NS)


def split_us(ns: int) -> tuple[int, int]:
    """Return `ns` as (seconds, microseconds)."""
    seconds, rest = divmod(ns, NS)
    return seconds, rest // 1000
