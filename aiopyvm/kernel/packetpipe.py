"""Pipes of packets (pipe2(2), O_DIRECT): what one write took is what one read gives, and the rest of it is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiopyvm.abi.errno import EAGAIN, ENOMEM, EPIPE, Errno
from aiopyvm.abi.fcntl import O_DIRECT, O_RDONLY, O_WRONLY
from aiopyvm.abi.signal import POLL_IN, POLL_OUT
from aiopyvm.kernel.file import UNKNOWN
from aiopyvm.kernel.pipe import DEFAULT_CAPACITY, PAGE, Pipe, PipeEnd

if TYPE_CHECKING:
    from aiopyvm.kernel.ports import Budget
    from aiopyvm.mem.space import AddressSpace


class PacketPipe(Pipe):
    """A pipe each of whose chunks is a packet of at most a page, and takes a page."""

    __slots__ = ()

    def find(self, n: int) -> bytes | None:
        """Return the first packet, at most `n` bytes of it; None when nothing is there yet."""
        if not self.size:
            return None if n and self.writers else b""
        if n <= 0:
            return b""
        was_full = self.full
        packet = self._chunks.popleft()
        self._used -= 1
        self.size -= len(packet)
        if self._budget is not None:
            self._budget.charge(-len(packet))
        if was_full:
            self.write_queue.wake()
        self._tell(self.fasync_writers, POLL_OUT)
        return bytes(packet[:n])

    def write(self, data: bytes | memoryview) -> int:
        """Take `data` as packets, as many as there is room for; return how many bytes.

        Raises Errno: EPIPE without readers, EAGAIN when there is no room, ENOMEM when the budget refuses.
        """
        if not self.readers:
            raise Errno(EPIPE)
        if not data:
            return 0
        n = min(len(data), self.room)
        if n <= 0:
            raise Errno(EAGAIN)
        if self._budget is not None and not self._budget.charge(n):
            raise Errno(ENOMEM)
        packets = [bytes(data[at : min(at + PAGE, n)]) for at in range(0, n, PAGE)]
        self._chunks.extend(packets)
        self._used += len(packets)
        self.size += n
        self.read_queue.wake()
        self._tell(self.fasync_readers, POLL_IN)
        return n


class PacketEnd(PipeEnd):
    """An end of such a pipe, without the short ways of bytes that need no bounds."""

    def pull(self, memory: AddressSpace, address: int, n: int) -> int:
        """Nothing: `read` does it."""
        return UNKNOWN

    def push(self, memory: AddressSpace, address: int, n: int) -> int:
        """Nothing: `write` does it."""
        return UNKNOWN


def make_packet_pipe(budget: Budget | None, *, flags: int = 0, number: int = 1) -> tuple[PacketEnd, PacketEnd]:
    """Return the (reading, writing) ends of a new pipe; `flags` may hold O_NONBLOCK."""
    pipe = PacketPipe(budget, DEFAULT_CAPACITY, number)
    return PacketEnd(pipe, O_RDONLY | flags), PacketEnd(pipe, O_WRONLY | O_DIRECT | flags)
