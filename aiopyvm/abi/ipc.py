"""System V IPC of Linux i386: commands, flags and structures (sysvipc(7), asm-generic/ipcbuf.h)."""

from typing import Final, NamedTuple

from aiopyvm.abi.layout import layout

IPC_PRIVATE: Final = 0
IPC_CREAT: Final = 0o1000
IPC_EXCL: Final = 0o2000
IPC_NOWAIT: Final = 0o4000
IPC_RMID: Final = 0
IPC_SET: Final = 1
IPC_STAT: Final = 2
IPC_INFO: Final = 3
IPC_64: Final = 0x100  # with a command of ipc(2): the structures are those below

GETPID: Final = 11
GETVAL: Final = 12
GETALL: Final = 13
GETNCNT: Final = 14
GETZCNT: Final = 15
SETVAL: Final = 16
SETALL: Final = 17
SEM_STAT: Final = 18
SEM_INFO: Final = 19
SEM_STAT_ANY: Final = 20
SEM_UNDO: Final = 0x1000
SEMVMX: Final = 32767
SEMMSL: Final = 32000
SEMOPM: Final = 500
SEMMNI: Final = 32000

SHM_RDONLY: Final = 0o10000
SHM_RND: Final = 0o20000
SHM_REMAP: Final = 0o40000
SHM_EXEC: Final = 0o100000
SHM_HUGETLB: Final = 0o4000
SHM_DEST: Final = 0o1000
SHM_LOCK: Final = 11
SHM_UNLOCK: Final = 12
SHM_STAT: Final = 13
SHM_INFO: Final = 14
SHM_STAT_ANY: Final = 15
SHMMNI: Final = 4096

MSG_STAT: Final = 11
MSG_INFO: Final = 12
MSG_STAT_ANY: Final = 13
MSG_NOERROR: Final = 0o10000
MSG_EXCEPT: Final = 0o20000
MSG_COPY: Final = 0o40000
MSGMAX: Final = 8192
MSGMNB: Final = 16384
MSGMNI: Final = 32000

COMMAND_NAMES: Final = {IPC_RMID: "IPC_RMID", IPC_SET: "IPC_SET", IPC_STAT: "IPC_STAT", IPC_INFO: "IPC_INFO"}
SEM_COMMANDS: Final = COMMAND_NAMES | {
    GETPID: "GETPID", GETVAL: "GETVAL", GETALL: "GETALL", GETNCNT: "GETNCNT", GETZCNT: "GETZCNT", SETVAL: "SETVAL",
    SETALL: "SETALL", SEM_STAT: "SEM_STAT", SEM_INFO: "SEM_INFO", SEM_STAT_ANY: "SEM_STAT_ANY",
}  # fmt: skip
SHM_COMMANDS: Final = COMMAND_NAMES | {
    SHM_LOCK: "SHM_LOCK", SHM_UNLOCK: "SHM_UNLOCK", SHM_STAT: "SHM_STAT", SHM_INFO: "SHM_INFO",
    SHM_STAT_ANY: "SHM_STAT_ANY",
}  # fmt: skip
MSG_COMMANDS: Final = COMMAND_NAMES | {MSG_STAT: "MSG_STAT", MSG_INFO: "MSG_INFO", MSG_STAT_ANY: "MSG_STAT_ANY"}
GET_FLAGS: Final = {IPC_CREAT: "IPC_CREAT", IPC_EXCL: "IPC_EXCL"}


class IpcPerm(NamedTuple):
    """struct ipc64_perm."""

    key: int
    uid: int
    gid: int
    cuid: int
    cgid: int
    mode: int
    seq: int


PERM: Final = "5IH2xH2x8x"  # its layout


@layout("<" + PERM + "I6IIII8x")
class ShmidDs(NamedTuple):
    """struct shmid64_ds; times are low and high words."""

    key: int
    uid: int
    gid: int
    cuid: int
    cgid: int
    mode: int
    seq: int
    segsz: int
    atime: int
    atime_high: int
    dtime: int
    dtime_high: int
    ctime: int
    ctime_high: int
    cpid: int
    lpid: int
    nattch: int


@layout("<" + PERM + "4II8x")
class SemidDs(NamedTuple):
    """struct semid64_ds."""

    key: int
    uid: int
    gid: int
    cuid: int
    cgid: int
    mode: int
    seq: int
    otime: int
    otime_high: int
    ctime: int
    ctime_high: int
    nsems: int


@layout("<" + PERM + "6I3III8x")
class MsqidDs(NamedTuple):
    """struct msqid64_ds."""

    key: int
    uid: int
    gid: int
    cuid: int
    cgid: int
    mode: int
    seq: int
    stime: int
    stime_high: int
    rtime: int
    rtime_high: int
    ctime: int
    ctime_high: int
    cbytes: int
    qnum: int
    qbytes: int
    lspid: int
    lrpid: int


@layout("<Hhh")
class Sembuf(NamedTuple):
    """struct sembuf."""

    num: int
    op: int
    flags: int
