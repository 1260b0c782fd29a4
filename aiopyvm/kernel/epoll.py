"""epoll instances: sets of files that are watched, and those of them that may be ready (epoll(7)).

How it works. A `Watch` is entered as a listener on the queues of its file. When one of these is woken, the watch goes
to the end of its instance's ready list and one waiting thread is woken; who then collects asks the files themselves.
A level-triggered watch that was ready goes back to the end of the list, to be asked again; an edge-triggered one waits
for the next wake; a one-shot one is off until it is changed. So a wait costs what is ready, not what is watched.

What always holds. A watch is in the ready list of its own instance at most once. A file that is closed leaves all
instances. Instances that watch each other form no circle, at most MAX_NESTS stand above each other, and the ways from
one of them to those above are few: all are gone within one wake.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from aiopyvm.abi.errno import EEXIST, EINVAL, ELOOP, ENOENT, ENOMEM, ENOSPC, Errno
from aiopyvm.abi.fcntl import O_RDWR
from aiopyvm.abi.poll import EPOLL_HOW, EPOLLET, EPOLLEXCLUSIVE, EPOLLONESHOT, POLLERR, POLLHUP, READABLE
from aiopyvm.kernel.file import AnonymousFile, File
from aiopyvm.kernel.ports import Budget
from aiopyvm.kernel.wait import WaitQueue

MAX_NESTS: Final = 4
MAX_WATCHES: Final = 1024  # of one file: each of its wakes goes to all, and from there up
MAX_WATCHED: Final = 16384  # files of one instance: closing it forgets them all at once
MAX_WAYS: Final = 32  # that a wake of an instance goes up through those that watch it, itself included
WATCH_BYTES: Final = 512  # of the budget, for each watched file


class Watch:
    """One file in one instance, under the descriptor by which it was added. `data` is the program's own."""

    __slots__ = ("data", "epoll", "events", "fd", "file", "queues")

    def __init__(self, epoll: Epoll, file: File, fd: int, events: int, data: int) -> None:
        self.epoll = epoll
        self.file = file
        self.fd = fd
        self.events = events
        self.data = data
        self.queues: tuple[WaitQueue, ...] = ()

    def __call__(self) -> bool:
        """A queue of the file was woken; True where an exclusive watch has woken somebody: no other one has to."""
        epoll, events = self.epoll, self.events
        waited = bool(epoll.queue.threads)
        if events & ~EPOLL_HOW:
            epoll._ready[self] = None  # as `note`
            epoll._tell()
        return waited and bool(events & EPOLLEXCLUSIVE)

    @property
    def exclusive(self) -> bool:
        """One such watch is enough for a wake (EPOLLEXCLUSIVE)."""
        return bool(self.events & EPOLLEXCLUSIVE)

    @property
    def on(self) -> bool:
        """Whether it watches for anything: a one-shot that has told does not."""
        return bool(self.events & ~EPOLL_HOW)

    def now(self) -> int:
        """Return the events that hold and are asked for."""
        return self.file.poll() & self.events & ~EPOLL_HOW if self.on else 0

    def listen(self) -> None:
        """Be told by the queues that matter for `events`, and by no other."""
        self.leave()
        self.queues = self.file.queues(self.events & ~EPOLL_HOW)
        for queue in self.queues:
            queue.listeners[self] = None

    def leave(self) -> None:
        """Be told by no queue."""
        for queue in self.queues:
            del queue.listeners[self]
        self.queues = ()

    def remove(self) -> None:
        """Leave the instance."""
        self.epoll.drop(self)


class EpollQueue(WaitQueue):
    """A queue that is woken when a watch of an instance is."""

    __slots__ = ("epoll",)

    def __init__(self, epoll: Epoll) -> None:
        super().__init__("epoll")
        self.epoll = epoll

    def sources(self) -> Iterator[WaitQueue]:
        """This queue, and those of all watched files, each instance's once."""
        yield self
        seen, todo = {self.epoll}, [self.epoll]
        while todo:
            for watch in todo.pop().watched.values():
                for queue in watch.queues:
                    if not isinstance(queue, EpollQueue):
                        yield from queue.sources()
                    elif queue.epoll not in seen:
                        seen.add(queue.epoll)
                        todo.append(queue.epoll)
                        yield queue


class Epoll(AnonymousFile):
    """One epoll instance. `queue` is where epoll_wait(2) waits; who polls the instance itself has another."""

    def __init__(self, budget: Budget) -> None:
        super().__init__(b"[eventpoll]", O_RDWR)
        self._budget = budget
        self.watched: dict[tuple[File, int], Watch] = {}
        self._ready: dict[Watch, None] = {}
        self.queue = EpollQueue(self)
        self._poll_queue = EpollQueue(self)

    # --- what is watched --------------------------------------------------------------------------------------------

    def add(self, file: File, fd: int, events: int, data: int) -> None:
        """Watch `file`. Raises Errno: EEXIST, ELOOP, ENOMEM, ENOSPC, EINVAL where too many watch it."""
        if isinstance(file, Epoll):
            self._check_nesting(file)
        if (file, fd) in self.watched:
            raise Errno(EEXIST)
        if not (self._may_nest(file) if isinstance(file, Epoll) else self._may_watch(file)):
            raise Errno(EINVAL)
        if len(self.watched) >= MAX_WATCHED:
            raise Errno(ENOSPC)
        try:
            self.charge(self._budget, WATCH_BYTES)
        except Errno:
            raise Errno(ENOMEM) from None
        watch = self.watched[file, fd] = Watch(self, file, fd, events | POLLERR | POLLHUP, data)
        if file.watches is None:
            file.watches = {}
        file.watches[watch] = None
        self._begin(watch)

    def modify(self, file: File, fd: int, events: int, data: int) -> None:
        """Watch for other events. Raises Errno: ENOENT, EINVAL for an exclusive watch."""
        watch = self._find(file, fd)
        if watch.events & EPOLLEXCLUSIVE:
            raise Errno(EINVAL)
        watch.events, watch.data = events | POLLERR | POLLHUP, data
        self._begin(watch)

    def remove(self, file: File, fd: int) -> None:
        """Watch `file` no longer. Raises Errno(ENOENT)."""
        self.drop(self._find(file, fd))

    def drop(self, watch: Watch) -> None:
        """Forget a watch."""
        watch.leave()
        del self.watched[watch.file, watch.fd]
        self._ready.pop(watch, None)
        if watch.file.watches is not None:
            watch.file.watches.pop(watch)
        self.charge(self._budget, -WATCH_BYTES)

    def close(self) -> None:
        """Forget all watches."""
        for watch in self.watched.values():
            watch.leave()
            if watch.file.watches is not None:
                watch.file.watches.pop(watch)
        self.charge(self._budget, -WATCH_BYTES * len(self.watched))
        self.watched.clear()
        self._ready.clear()

    def _find(self, file: File, fd: int) -> Watch:
        watch = self.watched.get((file, fd))
        if watch is None:
            raise Errno(ENOENT)
        return watch

    def _begin(self, watch: Watch) -> None:
        watch.listen()
        if watch.now():
            self.note(watch)

    def _check_nesting(self, inner: Epoll) -> None:
        if inner.reaches(self) or inner.depth_below() + 1 + self.depth_above() > MAX_NESTS:
            raise Errno(ELOOP)

    def _may_watch(self, file: File) -> bool:
        """Whether wakes of `file`, which is no instance, would still be few."""
        watches = file.watches or {}
        if len(watches) < MAX_WATCHES // MAX_WAYS:
            return True
        ways = self.ways()
        for watch in watches:
            ways += watch.epoll.ways()
            if ways > MAX_WATCHES:
                break
        return ways <= MAX_WATCHES

    def _may_nest(self, inner: Epoll) -> bool:
        """Whether there would be few ways up from `inner`, and from those below it, were it watched."""
        seen: set[Epoll] = set()
        todo = [inner]
        while todo:
            here = todo.pop()
            if here not in seen:
                seen.add(here)
                if here.ways(inner, self) > MAX_WAYS:
                    return False
                todo += here._inner()
        return True

    def ways(self, inner: Epoll | None = None, outer: Epoll | None = None) -> int:
        """How many ways there are from this instance to itself and those above, were `inner` watched by `outer`, too;
        not counted beyond MAX_WAYS + 1."""
        count, todo = 0, [self]
        while todo and count <= MAX_WAYS:
            here = todo.pop()
            count += 1
            todo += (watch.epoll for watch in here.watches or ())
            if here is inner and outer is not None:
                todo.append(outer)
        return count

    def reaches(self, other: Epoll) -> bool:
        """Whether `other` is this instance, or one that it watches, directly or not."""
        seen: set[Epoll] = set()
        todo = [self]
        while todo:
            here = todo.pop()
            if here is other:
                return True
            if here not in seen:
                seen.add(here)
                todo += here._inner()
        return False

    def _inner(self) -> list[Epoll]:
        return [file for file, _ in self.watched if isinstance(file, Epoll)]

    def depth_below(self) -> int:
        """How many instances stand below this one, at the deepest."""
        level, depth = set(self._inner()), 0
        while level:
            depth += 1
            level = {inner for epoll in level for inner in epoll._inner()}
        return depth

    def depth_above(self) -> int:
        """How many instances stand above this one, at the highest."""
        level, depth = {watch.epoll for watch in self.watches or ()}, 0
        while level:
            depth += 1
            level = {watch.epoll for epoll in level for watch in epoll.watches or ()}
        return depth

    # --- what is ready ----------------------------------------------------------------------------------------------

    def note(self, watch: Watch) -> None:
        """The file of a watch that is on may be ready."""
        self._ready[watch] = None
        self._tell()

    def _tell(self) -> None:
        if self.queue.threads:
            self.queue.wake(1)
        if self._poll_queue.threads or self._poll_queue.listeners:
            self._poll_queue.wake()

    def collect(self, limit: int) -> list[tuple[Watch, int]]:
        """Return at most `limit` watches whose files are ready, with the events."""
        found: list[tuple[Watch, int]] = []
        for watch in tuple(self._ready):
            if len(found) >= limit:
                break
            del self._ready[watch]
            asked = watch.events & ~EPOLL_HOW
            if asked and (events := watch.file.poll() & asked):
                found.append((watch, events))
        return found

    def told(self, found: list[tuple[Watch, int]]) -> None:
        """The program has what `collect` gave: one-shot watches go off, level-triggered ones will be asked again."""
        for watch, _ in found:
            if watch.events & EPOLLONESHOT:
                watch.events &= EPOLL_HOW
            elif not watch.events & EPOLLET:
                self._ready[watch] = None
        if self._ready:
            self.queue.wake(1)

    def take_back(self, found: list[tuple[Watch, int]]) -> None:
        """The program could not be told what `collect` gave."""
        self._ready.update((watch, None) for watch, _ in found)

    # --- as a file --------------------------------------------------------------------------------------------------

    def poll(self) -> int:
        """Readable while a watched file is ready."""
        for watch in tuple(self._ready):
            if watch.now():
                return READABLE
            del self._ready[watch]
        return 0

    def queues(self, events: int) -> tuple[WaitQueue, ...]:
        """Return the queue for who polls it."""
        return (self._poll_queue,)
