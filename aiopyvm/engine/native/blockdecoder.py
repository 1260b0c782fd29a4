"""The generated decoder, from Python: bytes of a run in, records out, without the instruction table being imported.

It knows the shapes of the object made ahead of time; what other shapes' handlers are it is taught as they are met.
"""

from __future__ import annotations

import ctypes
from typing import Final

from aiopyvm.engine.native.decodejob import LEARNED_BITS, PADDING, DecodeJob, Learned, place
from aiopyvm.engine.native.layout import RECORD_SIZE

MOST_BYTES: Final = 256
_MOST_LEARNED: Final = 1 << LEARNED_BITS - 1  # half of the table's places: looking for a key takes few steps
_ALL: Final = (1 << 64) - 1


class BlockDecoder:
    """Calls `decode` at a host address. Of one thread at a time. `lacking`: bits of needs that the processor lacks.

    `window` is where the bytes go; `decode` says what it found in the job, `addresses` and `records`.
    """

    def __init__(self, address: int, most: int, lacking: int = 0) -> None:
        self._call = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(address)
        self._code = ctypes.create_string_buffer(MOST_BYTES + PADDING)
        self._records = ctypes.create_string_buffer(most * RECORD_SIZE)
        self._learned = (Learned * (1 << LEARNED_BITS))()
        self._known = 0
        self.window = memoryview(self._code).cast("B")
        self._bytes = memoryview(self._records).cast("B")
        self._words = self._bytes.cast("I")
        self._job = job = DecodeJob()
        self._place = ctypes.addressof(job)
        job.code, job.records = ctypes.addressof(self._code), ctypes.addressof(self._records)
        job.learned = ctypes.addressof(self._learned)
        job.lacking = lacking
        self._most = most

    def decode(self, eip: int, room: int, stop: int, most: int = 0) -> DecodeJob:
        """Decode what stands in the first `room` bytes of `window`, as if it were at `eip`; code ends at `stop`.

        At most `most` instructions (0: as many as there is room for).
        """
        job = self._job
        job.eip, job.room, job.stop, job.most = eip, room, stop & _ALL, most or self._most
        self._call(self._place)
        return job

    @property
    def addresses(self) -> tuple[int, ...]:
        """The addresses of the instructions that were decoded."""
        words = RECORD_SIZE // 4
        return tuple(self._words[1 : words * self._job.count : words].tolist())

    @property
    def records(self) -> bytes:
        """The records of the instructions that were decoded."""
        return bytes(self._bytes[: self._job.count * RECORD_SIZE])

    def learn(self, key: int, handler: int) -> None:
        """Instructions with this key have that handler from now on. Forgets all where there is too much of it."""
        if self._known >= _MOST_LEARNED:
            ctypes.memset(self._learned, 0, ctypes.sizeof(self._learned))
            self._known = 0
        at = place(key, LEARNED_BITS)
        while self._learned[at].key not in (0, key):
            at = (at + 1) % len(self._learned)
        self._known += self._learned[at].key == 0
        self._learned[at] = Learned(key, handler)
