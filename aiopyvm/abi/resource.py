"""Resource limits and usage of Linux i386 (getrlimit(2), getrusage(2), sysinfo(2), times(2))."""

from typing import Final, NamedTuple

from aiopyvm.abi.layout import layout

RLIMIT_CPU: Final = 0
RLIMIT_FSIZE: Final = 1
RLIMIT_DATA: Final = 2
RLIMIT_STACK: Final = 3
RLIMIT_CORE: Final = 4
RLIMIT_RSS: Final = 5
RLIMIT_NPROC: Final = 6
RLIMIT_NOFILE: Final = 7
RLIMIT_MEMLOCK: Final = 8
RLIMIT_AS: Final = 9
RLIMIT_LOCKS: Final = 10
RLIMIT_SIGPENDING: Final = 11
RLIMIT_MSGQUEUE: Final = 12
RLIMIT_NICE: Final = 13
RLIMIT_RTPRIO: Final = 14
RLIMIT_RTTIME: Final = 15
RLIM_NLIMITS: Final = 16
RLIM_INFINITY: Final = 0xFFFFFFFFFFFFFFFF
RLIM32_INFINITY: Final = 0xFFFFFFFF
OLD_RLIM_INFINITY: Final = 0x7FFFFFFF  # what getrlimit (76) gives at most

NAMES: Final[dict[int, str]] = {value: name for name, value in list(globals().items()) if name.startswith("RLIMIT_")}

RUSAGE_SELF: Final = 0
RUSAGE_CHILDREN: Final = -1
RUSAGE_BOTH: Final = -2
RUSAGE_THREAD: Final = 1

STACK_LIMIT: Final = 8 << 20
NGROUPS_MAX: Final = 65536  # getgroups(2)


def default_limits() -> list[tuple[int, int]]:
    """Return (soft, hard) by RLIMIT_* number, as Linux starts its first process."""
    limits = [(RLIM_INFINITY, RLIM_INFINITY)] * RLIM_NLIMITS
    limits[RLIMIT_STACK] = (STACK_LIMIT, RLIM_INFINITY)
    limits[RLIMIT_CORE] = (0, RLIM_INFINITY)
    limits[RLIMIT_NOFILE] = (1024, 4096)
    limits[RLIMIT_MEMLOCK] = (8 << 20, 8 << 20)
    limits[RLIMIT_SIGPENDING] = (1024, 1024)
    limits[RLIMIT_MSGQUEUE] = (819200, 819200)
    limits[RLIMIT_NICE] = limits[RLIMIT_RTPRIO] = (0, 0)
    return limits


@layout("<II")
class Rlimit(NamedTuple):
    """struct rlimit of a 32-bit program."""

    rlim_cur: int
    rlim_max: int


@layout("<QQ")
class Rlimit64(NamedTuple):
    """struct rlimit64 (prlimit(2))."""

    rlim_cur: int
    rlim_max: int


@layout("<18i")
class Rusage(NamedTuple):
    """struct rusage (getrusage(2))."""

    utime_sec: int
    utime_usec: int
    stime_sec: int
    stime_usec: int
    maxrss: int  # KiB
    ixrss: int = 0
    idrss: int = 0
    isrss: int = 0
    minflt: int = 0
    majflt: int = 0
    nswap: int = 0
    inblock: int = 0
    oublock: int = 0
    msgsnd: int = 0
    msgrcv: int = 0
    nsignals: int = 0
    nvcsw: int = 0
    nivcsw: int = 0


@layout("<4i")
class Tms(NamedTuple):
    """struct tms, in clock ticks of 1/100 s (times(2))."""

    tms_utime: int
    tms_stime: int
    tms_cutime: int
    tms_cstime: int


@layout("<i3I6IHHIII8x")
class Sysinfo(NamedTuple):
    """struct sysinfo (sysinfo(2)); loads in 1/65536."""

    uptime: int
    load1: int
    load5: int
    load15: int
    totalram: int
    freeram: int
    sharedram: int
    bufferram: int
    totalswap: int
    freeswap: int
    procs: int
    pad: int
    totalhigh: int
    freehigh: int
    mem_unit: int
