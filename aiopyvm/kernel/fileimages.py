"""Contents of files as images, which mappings of them show in any number of processes (mmap(2)).

A content that no guest can have made (a host's file, or bytes that Python gave) exists once in the host then, whoever
maps it: libraries, above all. A private mapping shows the file as it was when it was mapped, which mmap(2) leaves open.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from typing import Final

from aiopyvm.mem.backing import ImageBacking

MOST_BYTES: Final = 256 << 20  # of all that are kept for the next who maps them
MOST_OF_ONE: Final = 16 << 20
MOST_MAPPED: Final = 1 << 30  # of all that exist


class FileImages:
    """Images by content, as the very object; thread-safe. What was not used for longest goes."""

    def __init__(self) -> None:
        self._images: OrderedDict[int, tuple[bytes, ImageBacking]] = (
            OrderedDict()
        )  # by id of the content, which is kept
        self._size = 0
        self._living = 0  # bytes of images that somebody maps, or that are kept
        self._lock = threading.Lock()

    def of(self, content: bytes) -> ImageBacking | None:
        """The image of `content`; None where it is empty or too large, or there is no room for it."""
        if not 0 < len(content) <= MOST_OF_ONE:
            return None
        with self._lock:
            known = self._images.get(id(content))
            if known is not None:
                self._images.move_to_end(id(content))
                return known[1]
            if self._living + len(content) > MOST_MAPPED:
                return None
            try:
                image = ImageBacking(content)
            except OSError:
                return None
            self._living += len(content)
            weakref.finalize(image, self._died, len(content)).atexit = False
            self._images[id(content)] = content, image
            self._size += len(content)
            while self._size > MOST_BYTES:
                self._size -= len(self._images.popitem(last=False)[1][0])
            return image

    def _died(self, size: int) -> None:
        self._living -= size


FILE_IMAGES: Final = FileImages()
