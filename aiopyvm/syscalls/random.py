"""Random bytes: getrandom(2)."""

from __future__ import annotations

from typing import Annotated, Final

from aiopyvm.abi.errno import EINVAL, Errno
from aiopyvm.kernel.thread import Thread
from aiopyvm.kernel.wait import Wait
from aiopyvm.mem.faults import MemoryFault
from aiopyvm.syscalls.spec import Flags, OutBuffer, Size, syscall

GRND_NONBLOCK: Final = 1
GRND_RANDOM: Final = 2
GRND_INSECURE: Final = 4
CHUNK: Final = 64 << 10

RandomFlags = Annotated[int, Flags({1: "GRND_NONBLOCK", 2: "GRND_RANDOM", 4: "GRND_INSECURE"})]


@syscall(355, "getrandom", man="getrandom(2)")
def getrandom(t: Thread, buf: OutBuffer, buflen: Size, flags: RandomFlags) -> int | Wait:
    """Fill a buffer with random bytes; long ones piece by piece."""
    call = t.call
    assert call is not None
    if flags & ~7 or flags & 6 == 6:
        raise Errno(EINVAL)
    buflen = min(buflen, 0x7FFFF000)
    n = min(CHUNK, buflen - call.done)
    try:
        t.memory.write(buf + call.done, t.kernel.entropy.bytes(n))
    except MemoryFault as fault:
        done = call.done + max(0, fault.address - buf - call.done)
        if fault.out_of_memory or not done:
            raise
        return done
    call.done += n
    t.moved += n
    if call.done == buflen:
        return buflen
    return Wait(deadline=t.kernel.clock.monotonic_ns(), reason="its turn")
