"""Who and what: process, user and group ids, uname(2), personality(2), prctl(2), capabilities (credentials(7))."""

from __future__ import annotations

import struct
from typing import Annotated, Final, NamedTuple

from aiopyvm.abi.errno import EINVAL, EPERM, ESRCH, Errno
from aiopyvm.abi.layout import layout
from aiopyvm.abi.signal import NSIG
from aiopyvm.abi.utsname import OldoldUtsname, OldUtsname, Utsname
from aiopyvm.kernel.thread import Thread
from aiopyvm.syscalls.spec import I32, U32, Choice, Hex, InOut, Out, Ptr, Size, syscall

SYSNAME: Final = b"Linux"
RELEASE: Final = b"5.15.0"  # what programs test is whether a call exists; they ask the calls
VERSION: Final = b"#1 SMP aiopyvm"
MACHINE: Final = b"i686"

KEEP: Final = 0xFFFFFFFF  # -1: leave an id as it is
NO_ID16: Final = 65534  # what an id above 65535 looks like to the 16-bit calls
NGROUPS_MAX: Final = 65536

PR_SET_PDEATHSIG, PR_GET_PDEATHSIG, PR_GET_DUMPABLE, PR_SET_DUMPABLE = 1, 2, 3, 4
PR_GET_KEEPCAPS, PR_SET_KEEPCAPS = 7, 8
PR_SET_NAME, PR_GET_NAME = 15, 16
PR_GET_SECCOMP = 21
PR_CAPBSET_READ, PR_CAPBSET_DROP = 23, 24
PR_SET_TIMERSLACK, PR_GET_TIMERSLACK = 29, 30
PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER = 36, 37
PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS = 38, 39
PR_GET_TID_ADDRESS = 40
PrOption = Annotated[int, Choice({v: k for k, v in list(globals().items()) if k.startswith("PR_")})]

CAPABILITY_VERSIONS: Final = {0x19980330: 1, 0x20071026: 2, 0x20080522: 2}
CAPABILITY_VERSION_3: Final = 0x20080522


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
    return _id16(t.process.credentials.uid)


@syscall(199, "getuid32", man="getuid(2)")
def getuid32(t: Thread) -> int:
    """The real user id."""
    return t.process.credentials.uid


@syscall(49, "geteuid", man="getuid(2)")
def geteuid(t: Thread) -> int:
    """The effective user id."""
    return _id16(t.process.credentials.euid)


@syscall(201, "geteuid32", man="getuid(2)")
def geteuid32(t: Thread) -> int:
    """The effective user id."""
    return t.process.credentials.euid


@syscall(47, "getgid", man="getgid(2)")
def getgid(t: Thread) -> int:
    """The real group id."""
    return _id16(t.process.credentials.gid)


@syscall(200, "getgid32", man="getgid(2)")
def getgid32(t: Thread) -> int:
    """The real group id."""
    return t.process.credentials.gid


@syscall(50, "getegid", man="getgid(2)")
def getegid(t: Thread) -> int:
    """The effective group id."""
    return _id16(t.process.credentials.egid)


@syscall(202, "getegid32", man="getgid(2)")
def getegid32(t: Thread) -> int:
    """The effective group id."""
    return t.process.credentials.egid


@syscall(165, "getresuid", man="getresuid(2)")
def getresuid(t: Thread, ruid: Ptr, euid: Ptr, suid: Ptr) -> int:
    """Real, effective and saved user id, 16 bits each."""
    c = t.process.credentials
    for address, value in ((ruid, c.uid), (euid, c.euid), (suid, c.suid)):
        t.memory.store(address, 2, _id16(value))
    return 0


@syscall(209, "getresuid32", man="getresuid(2)")
def getresuid32(t: Thread, ruid: Out[U32], euid: Out[U32], suid: Out[U32]) -> int:
    """Real, effective and saved user id."""
    c = t.process.credentials
    for out, value in ((ruid, c.uid), (euid, c.euid), (suid, c.suid)):
        out.put(value)
    return 0


@syscall(171, "getresgid", man="getresgid(2)")
def getresgid(t: Thread, rgid: Ptr, egid: Ptr, sgid: Ptr) -> int:
    """Real, effective and saved group id, 16 bits each."""
    c = t.process.credentials
    for address, value in ((rgid, c.gid), (egid, c.egid), (sgid, c.sgid)):
        t.memory.store(address, 2, _id16(value))
    return 0


@syscall(211, "getresgid32", man="getresgid(2)")
def getresgid32(t: Thread, rgid: Out[U32], egid: Out[U32], sgid: Out[U32]) -> int:
    """Real, effective and saved group id."""
    c = t.process.credentials
    for out, value in ((rgid, c.gid), (egid, c.egid), (sgid, c.sgid)):
        out.put(value)
    return 0


def _set_user(t: Thread, real: int, effective: int, saved: int) -> int:
    """Set the user ids that are not KEEP to some that the process has; root may take any. Raises Errno(EPERM)."""
    c = t.process.credentials
    if c.euid != 0 and any(value not in (KEEP, c.uid, c.euid, c.suid) for value in (real, effective, saved)):
        raise Errno(EPERM)
    c.uid = c.uid if real == KEEP else real
    c.euid = c.euid if effective == KEEP else effective
    c.suid = c.suid if saved == KEEP else saved
    c.fsuid = t.process.fs.uid = c.euid
    return 0


def _set_group(t: Thread, real: int, effective: int, saved: int) -> int:
    """Like `_set_user`, for groups."""
    c = t.process.credentials
    if c.euid != 0 and any(value not in (KEEP, c.gid, c.egid, c.sgid) for value in (real, effective, saved)):
        raise Errno(EPERM)
    c.gid = c.gid if real == KEEP else real
    c.egid = c.egid if effective == KEEP else effective
    c.sgid = c.sgid if saved == KEEP else saved
    c.fsgid = t.process.fs.gid = c.egid
    return 0


def _setuid(t: Thread, uid: int) -> int:
    if uid == KEEP:
        raise Errno(EINVAL)
    c = t.process.credentials
    if c.euid == 0:
        return _set_user(t, uid, uid, uid)
    if uid not in (c.uid, c.suid):
        raise Errno(EPERM)
    return _set_user(t, KEEP, uid, KEEP)


def _setgid(t: Thread, gid: int) -> int:
    if gid == KEEP:
        raise Errno(EINVAL)
    c = t.process.credentials
    if c.euid == 0:
        return _set_group(t, gid, gid, gid)
    if gid not in (c.gid, c.sgid):
        raise Errno(EPERM)
    return _set_group(t, KEEP, gid, KEEP)


def _setreuid(t: Thread, ruid: int, euid: int) -> int:
    c = t.process.credentials
    if c.euid != 0 and (ruid not in (KEEP, c.uid, c.euid) or euid not in (KEEP, c.uid, c.euid, c.suid)):
        raise Errno(EPERM)
    new_saved = ruid != KEEP or (euid not in (KEEP, c.uid))
    saved = (c.euid if euid == KEEP else euid) if new_saved else KEEP
    return _set_user(t, ruid, euid, saved)


def _setregid(t: Thread, rgid: int, egid: int) -> int:
    c = t.process.credentials
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
    c = t.process.credentials
    old = c.fsuid
    if uid != KEEP and (c.euid == 0 or uid in (c.uid, c.euid, c.suid, c.fsuid)):
        c.fsuid = t.process.fs.uid = uid
    return old


def _setfsgid(t: Thread, gid: int) -> int:
    c = t.process.credentials
    old = c.fsgid
    if gid != KEEP and (c.euid == 0 or gid in (c.gid, c.egid, c.sgid, c.fsgid)):
        c.fsgid = t.process.fs.gid = gid
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
    groups = t.process.credentials.groups
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
    c = t.process.credentials
    if c.euid != 0:
        raise Errno(EPERM)
    if not 0 <= size <= NGROUPS_MAX:
        raise Errno(EINVAL)
    data = t.memory.read(list, width * size) if size else b""
    c.groups = struct.unpack(f"<{size}{_ID_FORMAT[width]}", data)
    t.process.fs.groups = frozenset(c.groups)
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


# --- the machine ------------------------------------------------------------------------------------------------------


@syscall(122, "uname", man="uname(2)")
def uname(t: Thread, buf: Out[Utsname]) -> int:
    """Names of the system and the machine."""
    buf.put(Utsname(SYSNAME, t.kernel.hostname, RELEASE, VERSION, MACHINE, t.kernel.domainname))
    return 0


@syscall(109, "olduname", man="uname(2)")
def olduname(t: Thread, buf: Out[OldUtsname]) -> int:
    """uname without the domain."""
    buf.put(OldUtsname(SYSNAME, t.kernel.hostname, RELEASE, VERSION, MACHINE))
    return 0


@syscall(59, "oldolduname", man="uname(2)")
def oldolduname(t: Thread, buf: Out[OldoldUtsname]) -> int:
    """uname with names cut to eight bytes."""
    buf.put(OldoldUtsname(SYSNAME, t.kernel.hostname, RELEASE, VERSION, MACHINE))
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
    if t.process.credentials.euid != 0:
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


# --- prctl ------------------------------------------------------------------------------------------------------------


@syscall(172, "prctl", man="prctl(2)")
def prctl(t: Thread, option: PrOption, arg2: Hex, arg3: Hex, arg4: Hex, arg5: Hex) -> int:
    """Attributes of a thread or process, one by one."""
    p = t.process
    if option == PR_SET_NAME:
        t.name = t.memory.read_cstr(arg2, 16)[:15]
    elif option == PR_GET_NAME:
        t.memory.write(arg2, t.name.ljust(16, b"\0"))
    elif option == PR_SET_PDEATHSIG:
        if arg2 > NSIG:
            raise Errno(EINVAL)
        p.death_signal = arg2
    elif option == PR_GET_PDEATHSIG:
        t.memory.store(arg2, 4, p.death_signal)
    elif option == PR_SET_DUMPABLE:
        if arg2 > 1:
            raise Errno(EINVAL)
        p.dumpable = arg2
    elif option == PR_SET_CHILD_SUBREAPER:
        p.subreaper = int(bool(arg2))
    elif option == PR_GET_CHILD_SUBREAPER:
        t.memory.store(arg2, 4, p.subreaper)
    elif option == PR_SET_NO_NEW_PRIVS:
        if arg2 != 1 or arg3 or arg4 or arg5:
            raise Errno(EINVAL)
        p.no_new_privs = 1
    elif option == PR_GET_TID_ADDRESS:
        t.memory.store(arg2, 4, t.clear_child_tid)
    else:
        return _prctl_value(t, option, arg2)
    return 0


def _prctl_value(t: Thread, option: int, arg2: int) -> int:
    """The options that answer by their result, or change nothing here."""
    if option == PR_GET_DUMPABLE:
        return t.process.dumpable
    if option == PR_GET_NO_NEW_PRIVS:
        return t.process.no_new_privs
    if option in (PR_GET_KEEPCAPS, PR_GET_SECCOMP):
        return 0
    if option == PR_GET_TIMERSLACK:
        return 50_000
    if option == PR_SET_TIMERSLACK:
        return 0
    if option == PR_CAPBSET_READ and arg2 <= 40:
        return int(t.process.credentials.euid == 0)
    raise Errno(EINVAL)


# --- capabilities -----------------------------------------------------------------------------------------------------


@layout("<Ii")
class CapHeader(NamedTuple):
    """struct __user_cap_header_struct (capget(2))."""

    version: int
    pid: int


@syscall(184, "capget", man="capget(2)")
def capget(t: Thread, header: InOut[CapHeader], data: Ptr) -> int:
    """The capabilities: all of root's, none of anybody else's."""
    words = _capability_words(header)
    given = header.get()
    if given.pid < 0:
        raise Errno(EINVAL)
    process = t.kernel.find_process(given.pid) if given.pid else t.process
    if process is None:
        raise Errno(ESRCH)
    if data:
        full = 0xFFFFFFFF if process.credentials.euid == 0 else 0
        effective_permitted_inheritable = [word for n in range(words) for word in (full >> 23 * n,) * 2 + (0,)]
        t.memory.write(data, struct.pack(f"<{3 * words}I", *effective_permitted_inheritable))
    return 0


@syscall(185, "capset", man="capget(2)")
def capset(t: Thread, header: InOut[CapHeader], data: Ptr) -> int:
    """Nobody may raise capabilities here; asking for none changes nothing where there are none."""
    words = _capability_words(header)
    if header.get().pid not in (0, t.process.pid):
        raise Errno(EPERM)
    asked = t.memory.read(data, 12 * words)
    if any(asked) or t.process.credentials.euid == 0:
        raise Errno(EPERM)
    return 0


def _capability_words(header: InOut[CapHeader]) -> int:
    given = header.get()
    words = CAPABILITY_VERSIONS.get(given.version)
    if words is None:
        header.put(given._replace(version=CAPABILITY_VERSION_3))
        raise Errno(EINVAL)
    return words
