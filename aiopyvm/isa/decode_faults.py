"""What decoding raises; apart from the decoder, which programs that were run before do without."""

from __future__ import annotations


class DecodeFault(Exception):
    """The bytes fault when they are executed: `vector` is 6 (#UD) or 13 (#GP, error code 0: longer than 15 bytes)."""

    def __init__(self, vector: int) -> None:
        super().__init__(vector)
        self.vector = vector
        self.error_code = 0


class NeedMore(Exception):
    """The bytes end inside an instruction of at most 15 bytes."""
