"""Who: process, user and group ids (credentials(7))."""

from __future__ import annotations

import struct
from typing import Final

from aiopyvm.abi.errno import EINVAL, EPERM, Errno
from aiopyvm.abi.resource import NGROUPS_MAX
from aiopyvm.kernel.thread import Thread
from aiopyvm.syscalls.spec import I32, U32, Out, Ptr, syscall

KEEP: Final = 0xFFFFFFFF  # -1: leave an id as it is
NO_ID16: Final = 65534  # what an id above 65535 looks like to the 16-bit calls


# --- processes --------------------------------------------------------------------------------------------------------


@syscall(20, "getpid", man="getpid(2)")
def getpid(t: Thread) -> int:
    """The process's id."""
    return t.process.pid


@syscall(64, "getppid", man="getppid(2)")
def getppid(t: Thread) -> int:
    """The parent's id, 0: none within the machine."""
    parent = t.process.parent
    return parent.pid if parent is not None else 0


# --- users and groups -------------------------------------------------------------------------------------------------


def _id16(value: int) -> int:
    return value if value < 65536 else NO_ID16


def _from16(value: int) -> int:
    """A 16-bit id as the 32-bit calls take it: 65535 is -1."""
    value &= 0xFFFF
    return KEEP if value == 0xFFFF else value


@syscall(24, "getuid", man="getuid(2)")
def getuid(t: Thread) -> int:
    """The real user id."""
    return _id16(t.credentials.uid)


@syscall(199, "getuid32", man="getuid(2)")
def getuid32(t: Thread) -> int:
    """The real user id."""
    return t.credentials.uid


@syscall(49, "geteuid", man="getuid(2)")
def geteuid(t: Thread) -> int:
    """The effective user id."""
    return _id16(t.credentials.euid)


@syscall(201, "geteuid32", man="getuid(2)")
def geteuid32(t: Thread) -> int:
    """The effective user id."""
    return t.credentials.euid


@syscall(47, "getgid", man="getgid(2)")
def getgid(t: Thread) -> int:
    """The real group id."""
    return _id16(t.credentials.gid)


@syscall(200, "getgid32", man="getgid(2)")
def getgid32(t: Thread) -> int:
    """The real group id."""
    return t.credentials.gid


@syscall(50, "getegid", man="getgid(2)")
def getegid(t: Thread) -> int:
    """The effective group id."""
    return _id16(t.credentials.egid)


@syscall(202, "getegid32", man="getgid(2)")
def getegid32(t: Thread) -> int:
    """The effective group id."""
    return t.credentials.egid


@syscall(165, "getresuid", man="getresuid(2)")
def getresuid(t: Thread, ruid: Ptr, euid: Ptr, suid: Ptr) -> int:
    """Real, effective and saved user id, 16 bits each."""
    c = t.credentials
    for address, value in ((ruid, c.uid), (euid, c.euid), (suid, c.suid)):
        t.memory.store(address, 2, _id16(value))
    return 0


@syscall(209, "getresuid32", man="getresuid(2)")
def getresuid32(t: Thread, ruid: Out[U32], euid: Out[U32], suid: Out[U32]) -> int:
    """Real, effective and saved user id."""
    c = t.credentials
    for out, value in ((ruid, c.uid), (euid, c.euid), (suid, c.suid)):
        out.put(value)
    return 0


@syscall(171, "getresgid", man="getresgid(2)")
def getresgid(t: Thread, rgid: Ptr, egid: Ptr, sgid: Ptr) -> int:
    """Real, effective and saved group id, 16 bits each."""
    c = t.credentials
    for address, value in ((rgid, c.gid), (egid, c.egid), (sgid, c.sgid)):
        t.memory.store(address, 2, _id16(value))
    return 0


@syscall(211, "getresgid32", man="getresgid(2)")
def getresgid32(t: Thread, rgid: Out[U32], egid: Out[U32], sgid: Out[U32]) -> int:
    """Real, effective and saved group id."""
    c = t.credentials
    for out, value in ((rgid, c.gid), (egid, c.egid), (sgid, c.sgid)):
        out.put(value)
    return 0


def _set_user(t: Thread, real: int, effective: int, saved: int) -> int:
    """Set the user ids that are not KEEP to some that the process has; root may take any. Raises Errno(EPERM)."""
    c = t.credentials
    if c.euid != 0 and any(value not in (KEEP, c.uid, c.euid, c.suid) for value in (real, effective, saved)):
        raise Errno(EPERM)
    c = t.take_ids()
    c.uid = c.uid if real == KEEP else real
    euid = c.euid if effective == KEEP else effective
    _changes(t, (c.euid, c.fsuid) != (euid, euid))
    c.euid = euid
    c.suid = c.suid if saved == KEEP else saved
    c.fsuid = t.fs.uid = c.euid
    return 0


def _changes(t: Thread, changes: bool) -> None:
    """Effective ids, or those for files, are about to change: other processes may not look into this one any more
    (commit_creds; PR_SET_DUMPABLE)."""
    if changes:
        t.process.dumpable = 0


def _set_group(t: Thread, real: int, effective: int, saved: int) -> int:
    """Like `_set_user`, for groups."""
    c = t.credentials
    if c.euid != 0 and any(value not in (KEEP, c.gid, c.egid, c.sgid) for value in (real, effective, saved)):
        raise Errno(EPERM)
    c = t.take_ids()
    c.gid = c.gid if real == KEEP else real
    egid = c.egid if effective == KEEP else effective
    _changes(t, (c.egid, c.fsgid) != (egid, egid))
    c.egid = egid
    c.sgid = c.sgid if saved == KEEP else saved
    c.fsgid = t.fs.gid = c.egid
    return 0


def _setuid(t: Thread, uid: int) -> int:
    if uid == KEEP:
        raise Errno(EINVAL)
    c = t.credentials
    if c.euid == 0:
        return _set_user(t, uid, uid, uid)
    if uid not in (c.uid, c.suid):
        raise Errno(EPERM)
    return _set_user(t, KEEP, uid, KEEP)


def _setgid(t: Thread, gid: int) -> int:
    if gid == KEEP:
        raise Errno(EINVAL)
    c = t.credentials
    if c.euid == 0:
        return _set_group(t, gid, gid, gid)
    if gid not in (c.gid, c.sgid):
        raise Errno(EPERM)
    return _set_group(t, KEEP, gid, KEEP)


def _setreuid(t: Thread, ruid: int, euid: int) -> int:
    c = t.credentials
    if c.euid != 0 and (ruid not in (KEEP, c.uid, c.euid) or euid not in (KEEP, c.uid, c.euid, c.suid)):
        raise Errno(EPERM)
    new_saved = ruid != KEEP or (euid not in (KEEP, c.uid))
    saved = (c.euid if euid == KEEP else euid) if new_saved else KEEP
    return _set_user(t, ruid, euid, saved)


def _setregid(t: Thread, rgid: int, egid: int) -> int:
    c = t.credentials
    if c.euid != 0 and (rgid not in (KEEP, c.gid, c.egid) or egid not in (KEEP, c.gid, c.egid, c.sgid)):
        raise Errno(EPERM)
    new_saved = rgid != KEEP or (egid not in (KEEP, c.gid))
    saved = (c.egid if egid == KEEP else egid) if new_saved else KEEP
    return _set_group(t, rgid, egid, saved)


@syscall(23, "setuid", man="setuid(2)")
def setuid(t: Thread, uid: U32) -> int:
    """Set the user id."""
    return _setuid(t, _from16(uid))


@syscall(213, "setuid32", man="setuid(2)")
def setuid32(t: Thread, uid: U32) -> int:
    """Set the user id."""
    return _setuid(t, uid)


@syscall(46, "setgid", man="setgid(2)")
def setgid(t: Thread, gid: U32) -> int:
    """Set the group id."""
    return _setgid(t, _from16(gid))


@syscall(214, "setgid32", man="setgid(2)")
def setgid32(t: Thread, gid: U32) -> int:
    """Set the group id."""
    return _setgid(t, gid)


@syscall(70, "setreuid", man="setreuid(2)")
def setreuid(t: Thread, ruid: U32, euid: U32) -> int:
    """Set the real and the effective user id."""
    return _setreuid(t, _from16(ruid), _from16(euid))


@syscall(203, "setreuid32", man="setreuid(2)")
def setreuid32(t: Thread, ruid: U32, euid: U32) -> int:
    """Set the real and the effective user id."""
    return _setreuid(t, ruid, euid)


@syscall(71, "setregid", man="setreuid(2)")
def setregid(t: Thread, rgid: U32, egid: U32) -> int:
    """Set the real and the effective group id."""
    return _setregid(t, _from16(rgid), _from16(egid))


@syscall(204, "setregid32", man="setreuid(2)")
def setregid32(t: Thread, rgid: U32, egid: U32) -> int:
    """Set the real and the effective group id."""
    return _setregid(t, rgid, egid)


@syscall(164, "setresuid", man="setresuid(2)")
def setresuid(t: Thread, ruid: U32, euid: U32, suid: U32) -> int:
    """Set the real, the effective and the saved user id."""
    return _set_user(t, _from16(ruid), _from16(euid), _from16(suid))


@syscall(208, "setresuid32", man="setresuid(2)")
def setresuid32(t: Thread, ruid: U32, euid: U32, suid: U32) -> int:
    """Set the real, the effective and the saved user id."""
    return _set_user(t, ruid, euid, suid)


@syscall(170, "setresgid", man="setresuid(2)")
def setresgid(t: Thread, rgid: U32, egid: U32, sgid: U32) -> int:
    """Set the real, the effective and the saved group id."""
    return _set_group(t, _from16(rgid), _from16(egid), _from16(sgid))


@syscall(210, "setresgid32", man="setresuid(2)")
def setresgid32(t: Thread, rgid: U32, egid: U32, sgid: U32) -> int:
    """Set the real, the effective and the saved group id."""
    return _set_group(t, rgid, egid, sgid)


def _setfsuid(t: Thread, uid: int) -> int:
    c = t.credentials
    old = c.fsuid
    if uid != KEEP and (c.euid == 0 or uid in (c.uid, c.euid, c.suid, c.fsuid)):
        _changes(t, uid != old)
        t.take_ids().fsuid = t.fs.uid = uid
    return old


def _setfsgid(t: Thread, gid: int) -> int:
    c = t.credentials
    old = c.fsgid
    if gid != KEEP and (c.euid == 0 or gid in (c.gid, c.egid, c.sgid, c.fsgid)):
        _changes(t, gid != old)
        t.take_ids().fsgid = t.fs.gid = gid
    return old


@syscall(138, "setfsuid", man="setfsuid(2)")
def setfsuid(t: Thread, fsuid: U32) -> int:
    """Set the user id for files, if allowed; the one before."""
    return _id16(_setfsuid(t, _from16(fsuid)))


@syscall(215, "setfsuid32", man="setfsuid(2)")
def setfsuid32(t: Thread, fsuid: U32) -> int:
    """Set the user id for files, if allowed; the one before."""
    return _setfsuid(t, fsuid)


@syscall(139, "setfsgid", man="setfsgid(2)")
def setfsgid(t: Thread, fsgid: U32) -> int:
    """Set the group id for files, if allowed; the one before."""
    return _id16(_setfsgid(t, _from16(fsgid)))


@syscall(216, "setfsgid32", man="setfsgid(2)")
def setfsgid32(t: Thread, fsgid: U32) -> int:
    """Set the group id for files, if allowed; the one before."""
    return _setfsgid(t, fsgid)


_ID_FORMAT: Final = {2: "H", 4: "I"}


def _getgroups(t: Thread, size: int, list: int, width: int) -> int:
    groups = t.credentials.groups
    if size < 0:
        raise Errno(EINVAL)
    if size:
        if len(groups) > size:
            raise Errno(EINVAL)
        shown = [_id16(g) for g in groups] if width == 2 else groups
        t.memory.write(list, struct.pack(f"<{len(groups)}{_ID_FORMAT[width]}", *shown))
        t.moved += 64 * len(groups)
    return len(groups)


def _setgroups(t: Thread, size: int, list: int, width: int) -> int:
    c = t.credentials
    if c.euid != 0:
        raise Errno(EPERM)
    if not 0 <= size <= NGROUPS_MAX:
        raise Errno(EINVAL)
    data = t.memory.read(list, width * size) if size else b""
    c = t.take_ids()
    c.groups = struct.unpack(f"<{size}{_ID_FORMAT[width]}", data)
    t.fs.groups = frozenset(c.groups)
    t.moved += 64 * size
    return 0


@syscall(80, "getgroups", man="getgroups(2)")
def getgroups(t: Thread, size: I32, list: Ptr) -> int:
    """The supplementary groups, 16 bits each."""
    return _getgroups(t, size, list, 2)


@syscall(205, "getgroups32", man="getgroups(2)")
def getgroups32(t: Thread, size: I32, list: Ptr) -> int:
    """The supplementary groups."""
    return _getgroups(t, size, list, 4)


@syscall(81, "setgroups", man="getgroups(2)")
def setgroups(t: Thread, size: I32, list: Ptr) -> int:
    """Set the supplementary groups, 16 bits each."""
    return _setgroups(t, size, list, 2)


@syscall(206, "setgroups32", man="getgroups(2)")
def setgroups32(t: Thread, size: I32, list: Ptr) -> int:
    """Set the supplementary groups."""
    return _setgroups(t, size, list, 4)
