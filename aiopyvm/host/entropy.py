"""Random bytes for guests: the host's, or a stream that a seed fixes. Both are `kernel.ports.Entropy`s."""

from __future__ import annotations

import os


class HostEntropy:
    """The host's own random bytes."""

    __slots__ = ()

    def bytes(self, n: int) -> bytes:
        """Return `n` random bytes (n >= 0)."""
        return os.urandom(n)


class SeededEntropy:
    """Bytes that `seed` and `stream` fix, the same on every host; not for secrets."""

    __slots__ = ("_random",)

    def __init__(self, seed: int | str | bytes, stream: int = 0) -> None:
        import random  # for those alone who give a seed

        text = seed if isinstance(seed, str) else seed.hex() if isinstance(seed, bytes) else str(int(seed))
        self._random = random.Random(f"aiopyvm {type(seed).__name__} {text} {stream}")

    def bytes(self, n: int) -> bytes:
        """Return `n` bytes (n >= 0)."""
        return self._random.randbytes(n)
