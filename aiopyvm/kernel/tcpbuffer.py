"""What a TCP socket has received and its program has not: the inbox, and what is paid for it.

How it works. The inbox is a line of pieces. Small ones that meet there are joined, so that none costs much more than
its bytes; a single one stays what it came as.

What always holds. `held` bytes, at least `inbox_size`, are charged to `budget`, at most `SPARE` more than the inbox
holds: small messages that come and go cost the account nothing (Linux's sk_forward_alloc).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from aiopyvm.kernel.inetsocket import InetSocket

if TYPE_CHECKING:
    from aiopyvm.kernel.inet import Inet
    from aiopyvm.kernel.ports import Budget

SMALL: Final = 4096  # bytes: shorter pieces are joined
LARGE: Final = 65536  # until they are as long
SPARE: Final = 4096  # bytes that stay paid for


class Urgent:
    """The urgent byte of an inbox: `ahead` bytes are before it. `taken`: recv(2) with MSG_OOB has had it."""

    __slots__ = ("ahead", "taken", "value")

    def __init__(self, ahead: int, value: int) -> None:
        self.ahead = ahead
        self.value = value
        self.taken = False


class BufferedSocket(InetSocket):
    """A socket with an inbox; see the module's docstring."""

    def __init__(
        self, host: Inet, domain: int, kind: int, protocol: int, budget: Budget, number: int, flags: int
    ) -> None:
        super().__init__(host, domain, kind, protocol, budget, number, flags)
        self.peer: BufferedSocket | None = None  # who sends here
        self.inbox: deque[bytes | bytearray] = deque()
        self.inbox_start = 0  # bytes of the first piece that were taken
        self.inbox_size = 0
        self.held = 0
        self.urgent: Urgent | None = None

    # --- paying -----------------------------------------------------------------------------------------------------

    def admit(self, n: int) -> bool:
        """Pay for `n` bytes that are to come; False, and nothing is done, where the budget has not as many."""
        short = self.inbox_size + n - self.held
        if short > 0:
            if not self.budget.charge(short):
                return False
            self.held += short
        return True

    def move_to(self, budget: Budget) -> None:
        """Have another one pay."""
        self.budget.charge(-self.held)
        self.budget = budget
        budget.charge(self.held)

    def forget(self) -> None:
        """Drop all that is there."""
        self.inbox.clear()
        self.budget.charge(-self.held)
        self.held = self.inbox_size = self.inbox_start = 0
        self.urgent = None

    # --- coming -----------------------------------------------------------------------------------------------------

    def keep(self, data: bytes | memoryview) -> None:
        """Put what came, and was admitted, behind what is there."""
        inbox = self.inbox
        n = len(data)
        self.inbox_size += n
        if inbox and n < SMALL and len(last := inbox[-1]) < (SMALL if type(last) is bytes else LARGE):
            if type(last) is bytes:
                last = inbox[-1] = bytearray(last)
            last += data
        else:
            inbox.append(bytes(data))

    def unreceive(self, data: bytes) -> None:
        """Put the tail of what was taken back."""
        if not data:
            return
        if self.inbox_start:
            rest = bytes(self.inbox.popleft()[self.inbox_start :])
            self.inbox_start = 0
            self.inbox.appendleft(rest)
        self.inbox.appendleft(data)
        self.inbox_size += len(data)
        if self.urgent is not None:
            self.urgent.ahead += len(data)
        if self.inbox_size > self.held:
            self.budget.charge(self.inbox_size - self.held)
            self.held = self.inbox_size

    # --- going ------------------------------------------------------------------------------------------------------

    def look(self, n: int) -> bytes:
        """Return the first `n` bytes, which stay."""
        parts: list[bytes] = []
        start = self.inbox_start
        for piece in self.inbox:
            parts.append(bytes(piece[start : start + n]))
            n -= len(parts[-1])
            start = 0
            if not n:
                break
        return b"".join(parts)

    def take(self, n: int) -> bytes:
        """Return the first `n` bytes, fewer where there are fewer; the sender has room again."""
        inbox = self.inbox
        if len(inbox) == 1 and not self.inbox_start and self.inbox_size <= n:
            whole = inbox.popleft()
            self.taken(len(whole))
            return whole if type(whole) is bytes else bytes(whole)
        parts: list[bytes] = []
        taken = 0
        while inbox and taken < n:
            piece, start = inbox[0], self.inbox_start
            part = bytes(piece[start : start + n - taken])
            parts.append(part)
            taken += len(part)
            if start + len(part) == len(piece):
                inbox.popleft()
                self.inbox_start = 0
            else:
                self.inbox_start = start + len(part)
        self.taken(taken)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def taken(self, n: int) -> None:
        """The inbox has `n` bytes less: the sender has room again."""
        self.inbox_size -= n
        if (over := self.held - self.inbox_size - SPARE) > 0:
            self.held -= over
            self.budget.charge(-over)
        if self.urgent is not None:
            self.urgent.ahead -= n
            if self.urgent.ahead < 0:
                self.urgent = None
        peer = self.peer
        if peer is not None and n and (peer.told or (queue := peer.write_queue).threads or queue.listeners):
            peer.room_came()
