"""System V message queues: msgget(2), msgsnd(2), msgrcv(2), msgctl(2)."""

from __future__ import annotations

import struct
from typing import Annotated, Final

from aiopyvm.abi import ipc as abi
from aiopyvm.abi.errno import E2BIG, EAGAIN, EINVAL, ENOMEM, ENOMSG, ENOSYS, EPERM, Errno
from aiopyvm.abi.ipc import MsqidDs
from aiopyvm.abi.layout import codec_of
from aiopyvm.kernel.sysv import MESSAGE_BYTES, READ, WRITE, Message, Messages
from aiopyvm.kernel.thread import Thread
from aiopyvm.kernel.wait import Restart, Wait
from aiopyvm.syscalls.shm import GetFlags, seconds
from aiopyvm.syscalls.spec import I32, Choice, Flags, Ptr, syscall
from aiopyvm.syscalls.steps import call_of

Command = Annotated[int, Choice(abi.MSG_COMMANDS)]
_NAMES: Final = {
    abi.IPC_NOWAIT: "IPC_NOWAIT", abi.MSG_NOERROR: "MSG_NOERROR", abi.MSG_EXCEPT: "MSG_EXCEPT", abi.MSG_COPY: "MSG_COPY"
}  # fmt: skip
MsgFlags = Annotated[int, Flags(_NAMES)]


@syscall(399, "msgget", man="msgget(2)")
def msgget(t: Thread, key: I32, msgflg: GetFlags) -> int:
    """Return the message queue of a key, or a new one."""
    who = t.credentials
    return t.kernel.ipc.messages.get(
        key, msgflg, who, lambda: Messages(key, who, msgflg, seconds(t)), lambda found: None
    )


@syscall(400, "msgsnd", man="msgop(2)")
def msgsnd(t: Thread, msqid: I32, msgp: Ptr, msgsz: I32, msgflg: MsgFlags) -> int | Wait:
    """Send a message."""
    state, who = call_of(t).state, t.credentials
    if "queue" not in state:
        (kind,) = struct.unpack("<i", t.memory.read(msgp, 4))
        if not 0 <= msgsz <= abi.MSGMAX or msqid < 0 or kind < 1:
            raise Errno(EINVAL)
        text = t.memory.read(msgp + 4, msgsz) if msgsz else b""
        state["message"], state["queue"] = Message(kind, text), t.kernel.ipc.messages.find(msqid)
    found: Messages = state["queue"]
    message: Message = state["message"]
    found.need_there()
    found.need(who, WRITE)
    size = len(message.text)
    if not found.has_room(size):
        if msgflg & abi.IPC_NOWAIT:
            raise Errno(EAGAIN)
        return Wait((found.room,), restart=Restart.NOHAND, reason="room for a message")
    if not t.kernel.charge(size + MESSAGE_BYTES):
        raise Errno(ENOMEM)
    found.messages.append(message)
    found.held += size
    found.sent, found.sender = seconds(t), t.process.pid
    t.moved += size
    found.queue.wake()
    return 0


@syscall(401, "msgrcv", man="msgop(2)", note="no MSG_COPY")
def msgrcv(t: Thread, msqid: I32, msgp: Ptr, msgsz: I32, msgtyp: I32, msgflg: MsgFlags) -> int | Wait:
    """Take a message: the first, the first of a type, or of the lowest type."""
    state = call_of(t).state
    if "queue" not in state:
        if msqid < 0 or msgsz < 0:
            raise Errno(EINVAL)
        if msgflg & abi.MSG_COPY:
            raise Errno(EINVAL if msgflg & abi.MSG_EXCEPT or not msgflg & abi.IPC_NOWAIT else ENOSYS)
        state["queue"] = t.kernel.ipc.messages.find(msqid)
    found: Messages = state["queue"]
    found.need_there()
    found.need(t.credentials, READ)
    message = _choose(found, msgtyp, msgflg)
    if message is None:
        if msgflg & abi.IPC_NOWAIT:
            raise Errno(ENOMSG)
        return Wait((found.queue,), restart=Restart.NOHAND, reason="a message")
    if len(message.text) > msgsz and not msgflg & abi.MSG_NOERROR:
        raise Errno(E2BIG)
    _take(t, found, message)
    text = message.text[:msgsz]
    t.memory.write(msgp, struct.pack("<i", message.type) + text)
    return len(text)


def _choose(found: Messages, kind: int, flags: int) -> Message | None:
    if not kind:
        return found.messages[0] if found.messages else None
    if kind > 0:
        except_it = bool(flags & abi.MSG_EXCEPT)
        return next((message for message in found.messages if (message.type == kind) != except_it), None)
    low = [message for message in found.messages if message.type <= -kind]
    return min(low, key=lambda message: message.type, default=None)


def _take(t: Thread, found: Messages, message: Message) -> None:
    size = len(message.text)
    for n, there in enumerate(found.messages):
        if there is message:
            del found.messages[n]
            break
    found.held -= size
    t.kernel.budget.charge(-size - MESSAGE_BYTES)
    found.received, found.receiver = seconds(t), t.process.pid
    t.moved += size
    found.room.wake()


@syscall(402, "msgctl", man="msgctl(2)")
def msgctl(t: Thread, msqid: I32, cmd: Command, buf: Ptr) -> int:
    """Tell, change or remove a message queue."""
    if msqid < 0 or cmd not in abi.MSG_COMMANDS:
        raise Errno(EINVAL)
    codec, who = codec_of(MsqidDs), t.credentials
    given = codec.unpack(t.memory.read(buf, codec.size)) if cmd == abi.IPC_SET else None
    if cmd in (abi.IPC_INFO, abi.MSG_INFO):
        return _info(t, cmd, buf)
    if cmd in (abi.IPC_STAT, abi.MSG_STAT, abi.MSG_STAT_ANY):
        return _stat(t, msqid, cmd, buf)
    found = t.kernel.ipc.messages.find(msqid)
    found.need_owner(who)
    if given is None:
        t.kernel.ipc.remove_messages(found)
        return 0
    if given.qbytes > abi.MSGMNB and who.euid:
        raise Errno(EPERM)
    found.uid, found.gid, found.mode, found.changed = given.uid, given.gid, given.mode & 0o777, seconds(t)
    found.limit = min(given.qbytes, abi.MSGMNB)
    found.queue.wake()
    found.room.wake()
    return 0


def _stat(t: Thread, msqid: int, cmd: int, buf: int) -> int:
    """IPC_STAT, and the same by a place in the table."""
    table, by_id = t.kernel.ipc.messages, cmd == abi.IPC_STAT
    found = table.find(msqid) if by_id else table.at(msqid)
    if cmd != abi.MSG_STAT_ANY:
        found.need(t.credentials, READ)
    times = (found.sent, 0, found.received, 0, found.changed, 0)
    counts = (found.held, len(found.messages), found.limit, found.sender, found.receiver)
    t.memory.write(buf, codec_of(MsqidDs).pack(MsqidDs(*found.perm, *times, *counts)))
    return 0 if by_id else found.id


def _info(t: Thread, cmd: int, buf: int) -> int:
    """Limits; with MSG_INFO what is there in their places. The last place taken."""
    table = t.kernel.ipc.messages
    pool, entries, total = abi.MSGMNI * abi.MSGMNB // 1024, abi.MSGMNB, abi.MSGMNB
    if cmd == abi.MSG_INFO:
        queues = table.all()
        pool, entries = len(queues), sum(len(queue.messages) for queue in queues)
        total = sum(queue.held for queue in queues)
    words = (pool, entries, abi.MSGMAX, abi.MSGMNB, abi.MSGMNI, 16, total)
    t.memory.write(buf, struct.pack("<7iH2x", *words, 0xFFFF))
    return table.highest
