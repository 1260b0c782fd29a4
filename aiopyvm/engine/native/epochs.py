"""When an object of generated code may be freed: nothing leads to it, and every run has ended that had begun before."""

from __future__ import annotations

import threading
from collections import deque
from itertools import count

from aiopyvm.engine.native.objectfile import LoadedObject


class Epochs:
    """Tells when nobody can be inside an object any more. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = 0
        self._running: dict[int, int] = {}  # token -> epoch in which the run began
        self._retired: deque[tuple[int, LoadedObject]] = deque()
        self._tokens = count()

    def begin(self) -> int:
        """A run of generated code begins; the token for `end`.

        Without the lock: what is retired before the run is noted, no record leads to when it begins.
        """
        token = next(self._tokens)
        self._running[token] = self._now
        return token

    def end(self, token: int) -> None:
        """A run has come back."""
        del self._running[token]
        if self._retired:
            self._free()

    def forget_threads(self) -> None:
        """In a child of fork(2): no other thread is left to give the lock back."""
        self._lock = threading.Lock()

    def retire(self, loaded: LoadedObject) -> None:
        """No record leads to this object any more: free it as soon as nobody can be inside."""
        with self._lock:
            self._retired.append((self._now, loaded))
            self._now += 1
        self._free()

    def _free(self) -> None:
        while True:
            with self._lock:
                oldest = min(tuple(self._running.values()), default=self._now)
                if not self._retired or self._retired[0][0] >= oldest:
                    return
                _, loaded = self._retired.popleft()
            loaded.free()


__all__ = ["Epochs"]
