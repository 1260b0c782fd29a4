"""Processes by descriptor: pidfd_open(2), pidfd_send_signal(2), pidfd_getfd(2)."""

from __future__ import annotations

from typing import Annotated, Final

from aiopyvm.abi.errno import EINVAL, EPERM, ESRCH, Errno
from aiopyvm.abi.fcntl import O_NONBLOCK
from aiopyvm.abi.signal import SI_TKILL, SI_USER, SigInfo, SiginfoBytes
from aiopyvm.kernel.fsfile import DirectoryFile
from aiopyvm.kernel.pidfd import PidFile, process_of
from aiopyvm.kernel.process import Life
from aiopyvm.kernel.procfs import ProcessDirectory
from aiopyvm.kernel.ptrace import may_look_into
from aiopyvm.kernel.thread import Thread
from aiopyvm.syscalls.files import give
from aiopyvm.syscalls.signals import check_signal, queued_info, send_checked
from aiopyvm.syscalls.spec import U32, Fd, Flags, In, Pid, Signo, syscall

PidFlags = Annotated[int, Flags({O_NONBLOCK: "PIDFD_NONBLOCK"})]
ALIVE_OR_ZOMBIE: Final = (Life.ALIVE, Life.ZOMBIE)


@syscall(434, "pidfd_open", man="pidfd_open(2)")
def pidfd_open(t: Thread, pid: Pid, flags: PidFlags) -> int:
    """Open a process."""
    if flags & ~O_NONBLOCK or pid <= 0:
        raise Errno(EINVAL)
    process = t.kernel.find_process(pid)
    if process is None:
        raise Errno(EINVAL if pid in t.kernel.threads else ESRCH)
    return give(t, PidFile(process, flags & O_NONBLOCK), cloexec=True)


@syscall(424, "pidfd_send_signal", man="pidfd_send_signal(2)")
def pidfd_send_signal(t: Thread, pidfd: Fd, sig: Signo, info: In[SiginfoBytes], flags: U32) -> int:
    """Send a signal to an open process; a directory /proc/PID is one too."""
    if flags:
        raise Errno(EINVAL)
    file = t.process.fds.get(pidfd)
    shown = file.directory if isinstance(file, DirectoryFile) else None
    target = shown.subject if isinstance(shown, ProcessDirectory) else process_of(t, pidfd)
    given = SigInfo(sig, SI_USER, t.process.pid, t.credentials.uid)
    if info:
        if info.get().signo != sig:
            raise Errno(EINVAL)
        given = queued_info(sig, info)
        if target is not t.process and (given.code >= 0 or given.code == SI_TKILL):
            raise Errno(EPERM)
    if target.life not in ALIVE_OR_ZOMBIE:
        raise Errno(ESRCH)
    check_signal(sig)
    send_checked(t, target, given)
    return 0


@syscall(438, "pidfd_getfd", man="pidfd_getfd(2)")
def pidfd_getfd(t: Thread, pidfd: Fd, targetfd: Fd, flags: U32) -> int:
    """Open a file of another process that the caller may look into."""
    if flags:
        raise Errno(EINVAL)
    target = process_of(t, pidfd)
    if target.life is not Life.ALIVE:
        raise Errno(ESRCH)
    if not may_look_into(t.process, target):
        raise Errno(EPERM)
    return t.process.fds.install(target.fds.get_any(targetfd), cloexec=True)
