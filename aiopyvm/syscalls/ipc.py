"""ipc(2): all System V calls behind one number, as older libraries make them."""

from __future__ import annotations

import struct
from typing import Annotated, Final

from aiopyvm.abi.errno import EINVAL, ENOSYS, Errno
from aiopyvm.abi.ipc import IPC_64, IPC_STAT, Sembuf
from aiopyvm.abi.layout import codec_of
from aiopyvm.abi.time import Timespec32
from aiopyvm.kernel.thread import Thread
from aiopyvm.kernel.wait import Wait
from aiopyvm.syscalls.msg import msgctl, msgget, msgrcv, msgsnd
from aiopyvm.syscalls.sem import operate, semctl, semget
from aiopyvm.syscalls.shm import shmat, shmctl, shmdt, shmget
from aiopyvm.syscalls.spec import Array, Choice, Hex, In, Ptr, syscall

SEMOP, SEMGET, SEMCTL, SEMTIMEDOP, MSGSND, MSGRCV, MSGGET, MSGCTL = 1, 2, 3, 4, 11, 12, 13, 14
SHMAT, SHMDT, SHMGET, SHMCTL = 21, 22, 23, 24
_NAMES: Final = {
    SEMOP: "SEMOP", SEMGET: "SEMGET", SEMCTL: "SEMCTL", SEMTIMEDOP: "SEMTIMEDOP", MSGSND: "MSGSND", MSGRCV: "MSGRCV",
    MSGGET: "MSGGET", MSGCTL: "MSGCTL", SHMAT: "SHMAT", SHMDT: "SHMDT", SHMGET: "SHMGET", SHMCTL: "SHMCTL",
}  # fmt: skip
IpcCall = Annotated[int, Choice(_NAMES)]


@syscall(117, "ipc", man="ipc(2)", note="structures of before Linux 2.4 (without IPC_64) are EINVAL")
def ipc(t: Thread, call: IpcCall, first: Hex, second: Hex, third: Hex, ptr: Ptr, fifth: Hex) -> int | Wait:
    """Make the System V call that `call` names."""
    version, call = call >> 16, call & 0xFFFF
    one, two = _signed(first), _signed(second)
    match call:
        case 1 | 4:
            timeout = In(t, fifth, codec_of(Timespec32)) if call == SEMTIMEDOP and fifth else None
            return operate(t, one, Array(t, ptr, codec_of(Sembuf)), second, timeout)
        case 2:
            return semget(t, one, two, third)
        case 3:
            if not ptr:
                raise Errno(EINVAL)
            return semctl(t, one, two, _command(third), t.memory.load(ptr, 4))
        case 11:
            return msgsnd(t, one, ptr, two, third)
        case 12:
            return _msgrcv(t, version, one, two, third, ptr, fifth)
        case 13:
            return msgget(t, one, second)
        case 14:
            return msgctl(t, one, _command(second), ptr)
        case 21:
            return _shmat(t, version, one, ptr, second, third)
        case 22:
            return shmdt(t, ptr)
        case 23:
            return shmget(t, one, second, third)
        case 24:
            return shmctl(t, one, _command(second), ptr)
    raise Errno(ENOSYS)


def _signed(word: int) -> int:
    return (word ^ 0x80000000) - 0x80000000


def _command(word: int) -> int:
    """Return a command without IPC_64. Raises Errno(EINVAL) where structures of the old kind are meant."""
    command = _signed(word & ~IPC_64)
    if command in (1, IPC_STAT) and not word & IPC_64:
        raise Errno(EINVAL)
    return command


def _msgrcv(t: Thread, version: int, msqid: int, size: int, flags: int, ptr: int, kind: int) -> int | Wait:
    if version:
        return msgrcv(t, msqid, ptr, size, _signed(kind), flags)
    if not ptr:
        raise Errno(EINVAL)
    address, wanted = struct.unpack("<Ii", t.memory.read(ptr, 8))
    return msgrcv(t, msqid, address, size, wanted, flags)


def _shmat(t: Thread, version: int, shmid: int, address: int, flags: int, result: int) -> int | Wait:
    """shmat, whose result goes to an address."""
    if version == 1:
        raise Errno(EINVAL)
    at = shmat(t, shmid, address, flags)
    if isinstance(at, Wait):
        return at
    t.memory.store(result, 4, at)
    return 0
