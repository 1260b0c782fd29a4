"""Contents of files as images, which mappings of them show in any number of processes (mmap(2)).

A content that no guest can have made (a host's file, or bytes that Python gave) exists once in the host then, whoever
maps it: libraries, above all. A private mapping shows the file as it was when it was mapped, which mmap(2) leaves open.
Who maps an image pays for it (`HeldImages`); a bounded number stay for the next who maps them.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final

from aiopyvm.mem.backing import ImageBacking

MOST_BYTES: Final = 64 << 20  # of all that are kept for the next who maps them
MOST_OF_ONE: Final = 16 << 20
SHARE: Final = 4  # an image takes at most a quarter of what room its mapper has left: pages cost when they are touched


class FileImages:
    """Images by content, as the very object; thread-safe. What was not used for longest goes."""

    def __init__(self) -> None:
        self._images: OrderedDict[int, tuple[bytes, ImageBacking]] = (
            OrderedDict()
        )  # by id of the content, which is kept
        self._size = 0
        self._lock = threading.Lock()

    def of(self, content: bytes) -> ImageBacking | None:
        """The image of `content`; None where it is empty or too large, or the host has no room for it."""
        if not 0 < len(content) <= MOST_OF_ONE:
            return None
        with self._lock:
            known = self._images.get(id(content))
            if known is not None:
                self._images.move_to_end(id(content))
                return known[1]
            try:
                image = ImageBacking(content)
            except OSError:
                return None
            self._images[id(content)] = content, image
            self._size += len(content)
            while self._size > MOST_BYTES:
                self._size -= len(self._images.popitem(last=False)[1][0])
            return image


FILE_IMAGES: Final = FileImages()
