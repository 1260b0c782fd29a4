"""The strings of a program's arguments or environment: compact, however many there are (execve(2))."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Final

PER_TEXT: Final = 5  # bytes that a string takes beside its own: a NUL, and where it begins


class Texts:
    """NUL-terminated strings, one after the other in `data`. `longest` is the length of the longest."""

    __slots__ = ("_starts", "data", "longest")

    def __init__(self, texts: Iterable[bytes] = ()) -> None:
        self.data = bytearray()
        self._starts = array("I")
        self.longest = 0
        for text in texts:
            self.append(text)

    def __len__(self) -> int:
        return len(self._starts)

    @property
    def size(self) -> int:
        """Bytes that it takes."""
        return len(self.data) + 4 * len(self._starts)

    def append(self, text: bytes) -> None:
        """Add a string at the end."""
        self._starts.append(len(self.data))
        self.data += text
        self.data.append(0)
        self.longest = max(self.longest, len(text))

    def behind(self, head: Iterable[bytes]) -> Texts:
        """Return these strings with `head` in place of the first."""
        made = Texts(head)
        if len(self) > 1:
            cut = self._starts[1]
            made._starts.frombytes(_moved(self._starts[1:], len(made.data) - cut))
            made.data += memoryview(self.data)[cut:]
            made.longest = max(made.longest, self.longest)
        return made

    def addresses(self, base: int) -> bytes:
        """Return where the strings are when the first is at `base`, as words of 32 bits."""
        return _moved(self._starts, base)


def _moved(words: array[int], by: int) -> bytes:
    """Add `by` to every word, none of which leaves its 32 bits: as one number, which is much faster than one by one."""
    size = 4 * len(words)
    total = int.from_bytes(abs(by).to_bytes(4, "little") * len(words), "little")
    number = int.from_bytes(words.tobytes(), "little")
    return (number + total if by >= 0 else number - total).to_bytes(size, "little")
