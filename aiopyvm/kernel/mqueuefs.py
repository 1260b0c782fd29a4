"""/dev/mqueue: the message queues of the machine that looks, as files (mq_overview(7), "Mounting the message queue
filesystem").

Who looks is the `FsContext`: /dev has one directory for every kernel that runs on its tree, which its `MessageQueues`
hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiopyvm.abi.errno import ENOENT, EPERM, Errno
from aiopyvm.abi.stat import S_IFDIR, S_IFMT, S_IFREG, S_ISVTX, Stat, StatFs
from aiopyvm.kernel.fs import Directory, FileSystem, FixedListing, Inode, Listing
from aiopyvm.kernel.fsfile import DirectoryFile
from aiopyvm.kernel.mqueue import DEVICE, MAX_MESSAGES, MAX_SIZE, MessageQueue, MqFile, make_queue

if TYPE_CHECKING:
    from aiopyvm.kernel.file import File
    from aiopyvm.kernel.fscontext import FsContext
    from aiopyvm.kernel.kernel import Kernel

MQUEUE_MAGIC: Final = 0x19800202


class MqueueFs(FileSystem):
    """The file system for /dev/mqueue."""

    name = "mqueue"
    device = DEVICE

    def __init__(self, parent: Directory) -> None:
        self.root: MqueueDirectory = MqueueDirectory(self, parent, None)

    def statfs(self) -> StatFs:
        """Nothing is stored."""
        return StatFs(MQUEUE_MAGIC)

    def root_of(self, kernel: Kernel) -> MqueueDirectory:
        """The directory of a kernel's queues."""
        queues = kernel.mqueues
        if queues.directory is None:
            queues.directory = MqueueDirectory(self, self.root.parent, kernel)
        return queues.directory


class QueueNode(Inode):
    """The name of a queue; its attributes are the queue's."""

    fs: MqueueFs

    def __init__(self, fs: MqueueFs, queue: MessageQueue, name: bytes) -> None:
        self.fs = fs
        self.queue = queue
        self.name = name

    def stat(self) -> Stat:
        """The queue's."""
        return self.queue.stat()

    def set_mode(self, mode: int) -> None:
        """Set the permission bits."""
        self.queue.mode = mode & 0o7777

    def set_owner(self, uid: int, gid: int) -> None:
        """Set the owner; -1 leaves one as it is."""
        queue = self.queue
        queue.uid = queue.uid if uid == -1 else uid
        queue.gid = queue.gid if gid == -1 else gid

    def set_times(self, atime: int | None, mtime: int | None) -> None:
        """Set the times of the queue."""
        queue = self.queue
        queue.atime = queue.atime if atime is None else atime
        queue.mtime = queue.mtime if mtime is None else mtime

    def truncate(self, size: int) -> None:
        """Have it shown as so long, which changes nothing else."""
        self.queue.shown_size = size

    def open(self, ctx: FsContext, flags: int) -> File:
        """Return a new open file description."""
        return MqFile(self.queue, self.name, flags, self)


class MqueueDirectory(Directory):
    """/dev/mqueue itself, of one kernel."""

    fs: MqueueFs
    name = b"mqueue"

    def __init__(self, fs: MqueueFs, parent: Directory, kernel: Kernel | None) -> None:
        self.fs = fs
        self.parent = parent
        self.kernel = kernel
        self.mode, self.uid, self.gid = S_ISVTX | 0o777, 0, 0

    @property
    def _queues(self) -> dict[bytes, MessageQueue]:
        return self.kernel.mqueues.by_name if self.kernel is not None else {}

    def stat(self) -> Stat:
        """Where everybody may make a queue; its size tells how many there are."""
        size = 20 * (2 + len(self._queues))
        return Stat(1, S_IFDIR | self.mode, 2, self.uid, self.gid, size, dev=DEVICE)

    def set_mode(self, mode: int) -> None:
        """Set the permission bits."""
        self.mode = mode & 0o7777

    def set_owner(self, uid: int, gid: int) -> None:
        """Set the owner; -1 leaves one as it is."""
        self.uid = self.uid if uid == -1 else uid
        self.gid = self.gid if gid == -1 else gid

    def set_times(self, atime: int | None, mtime: int | None) -> None:
        """The times of the directory are kept by nobody."""

    def open(self, ctx: FsContext, flags: int) -> File:
        """Return a new open file description."""
        return DirectoryFile(self, flags, ctx)

    def lookup(self, name: bytes, ctx: FsContext) -> Inode:
        """Return the queue of that name. Raises Errno(ENOENT)."""
        queue = self._queues.get(name)
        if queue is None:
            raise Errno(ENOENT)
        if queue.node is None:
            queue.node = QueueNode(self.fs, queue, name)
        return queue.node

    def listing(self, ctx: FsContext) -> Listing:
        """The queues of this moment."""
        newest_first = reversed(self._queues.items())
        return FixedListing((queue.number, S_IFREG >> 12, name) for name, queue in newest_first)

    def empty(self) -> bool:
        """Never: it cannot be removed."""
        return False

    def make(self, name: bytes, mode: int, uid: int, gid: int, *, rdev: int = 0, target: bytes = b"") -> Inode:
        """Make a queue with the usual attributes. Raises Errno: EPERM for anything else, EMFILE, ENOMEM."""
        kernel = self.kernel
        if mode & S_IFMT != S_IFREG or kernel is None or kernel.current is None:
            raise Errno(EPERM)
        queue = make_queue(kernel.current, name, mode, MAX_MESSAGES, MAX_SIZE)
        node = queue.node = QueueNode(self.fs, queue, name)
        return node

    def unlink(self, name: bytes, inode: Inode) -> None:
        """Take a queue's name away."""
        if self.kernel is None:
            raise Errno(EPERM)
        self.kernel.mqueues.remove(name)
