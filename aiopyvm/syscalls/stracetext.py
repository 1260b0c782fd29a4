"""How strace writes bytes: what the modules that show arguments share."""

from __future__ import annotations

from typing import Final

SHOWN_BYTES: Final = 32  # of a string or buffer, as strace -s 32
SHOWN_ITEMS: Final = 32
_ESCAPES: Final = {9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}


def quoted(data: bytes, *, cut: bool = False, limit: int = SHOWN_BYTES) -> str:
    """Return `data` in strace's quotes and C escapes, at most `limit` bytes of it; `cut`: there is more."""
    text = []
    shown = data[:limit]
    for n, byte in enumerate(shown):
        if byte in _ESCAPES:
            text.append(_ESCAPES[byte])
        elif 32 <= byte < 127:
            text.append(chr(byte))
        else:
            digit_follows = n + 1 < len(shown) and 48 <= shown[n + 1] < 56
            text.append(f"\\{byte:03o}" if digit_follows else f"\\{byte:o}")
    return f'"{"".join(text)}"' + ("..." if cut or len(data) > limit else "")
