"""Time structures and clocks of Linux i386, 32-bit and time64 forms (time(7), clock_gettime(2), setitimer(2))."""

from typing import Final, NamedTuple

from aiopyvm.abi.errno import EINVAL, Errno
from aiopyvm.abi.layout import layout

NS: Final = 1_000_000_000
MAX_NS: Final = (1 << 63) - 1
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


@layout("<iiii")
class Itimerspec32(NamedTuple):
    """struct old_itimerspec32."""

    interval_sec: int
    interval_nsec: int
    value_sec: int
    value_nsec: int


@layout("<qqqq")
class Itimerspec64(NamedTuple):
    """struct __kernel_itimerspec; of tv_nsec the low 32 bits count."""

    interval_sec: int
    interval_nsec: int
    value_sec: int
    value_nsec: int


def check_itimerspec(given: Itimerspec32 | Itimerspec64) -> tuple[int, int]:
    """Return (interval, value) in ns, cut off where no clock ever comes. Raises Errno(EINVAL)."""
    times = []
    for seconds, rest in ((given.interval_sec, given.interval_nsec), (given.value_sec, given.value_nsec)):
        ns = rest & 0xFFFFFFFF
        if seconds < 0 or ns >= NS:
            raise Errno(EINVAL)
        times.append(min(seconds * NS + ns, MAX_NS))
    return times[0], times[1]


def itimerspec32(interval: int, value: int) -> Itimerspec32:
    """Return the structure for times in ns; seconds wrap around."""
    (interval_sec, interval_ns), (value_sec, value_ns) = split_ns(interval), split_ns(value)
    return Itimerspec32(_wrapped(interval_sec), interval_ns, _wrapped(value_sec), value_ns)


def itimerspec64(interval: int, value: int) -> Itimerspec64:
    """Return the structure for times in ns."""
    return Itimerspec64(*split_ns(interval), *split_ns(value))


def _wrapped(value: int) -> int:
    return (value + 0x80000000 & 0xFFFFFFFF) - 0x80000000
