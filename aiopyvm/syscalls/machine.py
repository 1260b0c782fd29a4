"""What machine this is: uname(2), sethostname(2), personality(2)."""

from __future__ import annotations

from aiopyvm.abi.errno import EINVAL, EPERM, Errno
from aiopyvm.abi.utsname import RELEASE, SYSNAME, VERSION, OldoldUtsname, OldUtsname, Utsname
from aiopyvm.kernel.thread import Thread
from aiopyvm.syscalls.spec import Hex, Out, Ptr, Size, syscall


@syscall(122, "uname", man="uname(2)")
def uname(t: Thread, buf: Out[Utsname]) -> int:
    """Names of the system and the machine."""
    buf.put(Utsname(SYSNAME, t.kernel.hostname, RELEASE, VERSION, t.kernel.processor.platform, t.kernel.domainname))
    return 0


@syscall(109, "olduname", man="uname(2)")
def olduname(t: Thread, buf: Out[OldUtsname]) -> int:
    """uname without the domain."""
    buf.put(OldUtsname(SYSNAME, t.kernel.hostname, RELEASE, VERSION, t.kernel.processor.platform))
    return 0


@syscall(59, "oldolduname", man="uname(2)")
def oldolduname(t: Thread, buf: Out[OldoldUtsname]) -> int:
    """uname with names cut to eight bytes."""
    buf.put(OldoldUtsname(SYSNAME, t.kernel.hostname, RELEASE, VERSION, t.kernel.processor.platform))
    return 0


@syscall(74, "sethostname", man="sethostname(2)")
def sethostname(t: Thread, name: Ptr, len: Size) -> int:
    """Root's to set, for this run."""
    t.kernel.hostname = _machine_name(t, name, len)
    return 0


@syscall(121, "setdomainname", man="setdomainname(2)")
def setdomainname(t: Thread, name: Ptr, len: Size) -> int:
    """Root's to set, for this run."""
    t.kernel.domainname = _machine_name(t, name, len)
    return 0


def _machine_name(t: Thread, address: int, size: int) -> bytes:
    if t.credentials.euid != 0:
        raise Errno(EPERM)
    if size > 64:
        raise Errno(EINVAL)
    return t.memory.read(address, size)


@syscall(136, "personality", man="personality(2)", hex_result=True)
def personality(t: Thread, persona: Hex) -> int:
    """Set the execution domain, 0xffffffff: nothing; the one before."""
    old = t.process.personality
    if persona != 0xFFFFFFFF:
        t.process.personality = persona
    return old
