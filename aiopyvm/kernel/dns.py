"""A resolver for names of one's own network: answers messages of DNS (RFC 1035) from a function, and asks nobody.

What always holds: whatever the query, the answer is None or one message; nothing of it is kept.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from aiopyvm.abi.inet import is_mapped

PORT: Final = 53
_HEADER: Final = struct.Struct(">6H")
_QUESTION: Final = struct.Struct(">HH")
_ANSWER: Final = struct.Struct(">HHHIH")
_NAME: Final = 0xC000 | _HEADER.size  # where the question's name stands
TYPE_A: Final = 1
TYPE_AAAA: Final = 28
CLASS_IN: Final = 1
QUERY_BITS: Final = 0xF800  # of the flags: it is an answer, and what kind of query
RECURSION_DESIRED: Final = 0x0100
ANSWERED: Final = 0x8480  # an answer, of an authority, which would recurse
NO_SUCH_NAME: Final = 3
LIFETIME_S: Final = 60


def answer(query: bytes, lookup: Callable[[bytes], bytes | None]) -> bytes | None:
    """Return the answer to a query; None where it is none that one answers.

    `lookup` returns the address (16 bytes, as in abi/inet.py) of a name in lower case, None where there is none.
    """
    if len(query) < _HEADER.size:
        return None
    number, flags, questions, *_ = _HEADER.unpack_from(query)
    found = _name_at(query, _HEADER.size)
    if flags & QUERY_BITS or questions != 1 or found is None:
        return None
    name, end = found
    if len(query) < end + _QUESTION.size:
        return None
    kind, klass = _QUESTION.unpack_from(query, end)
    question = query[_HEADER.size : end + _QUESTION.size]
    ip = lookup(name.lower()) if klass == CLASS_IN else None
    records = b""
    if ip is not None and kind == (TYPE_A if is_mapped(ip) else TYPE_AAAA):
        data = ip[12:] if kind == TYPE_A else ip
        records = _ANSWER.pack(_NAME, kind, CLASS_IN, LIFETIME_S, len(data)) + data
    code = 0 if ip is not None else NO_SUCH_NAME
    flags = ANSWERED | flags & RECURSION_DESIRED | code
    return _HEADER.pack(number, flags, 1, bool(records), 0, 0) + question + records


def _name_at(query: bytes, at: int) -> tuple[bytes, int] | None:
    """Return the name that stands at `at`, and where it ends; None for one that is cut off or compressed."""
    labels: list[bytes] = []
    while at < len(query):
        length = query[at]
        at += 1
        if length == 0:
            return b".".join(labels), at
        if length > 63 or at + length > len(query) or at > 255 + _HEADER.size:
            return None
        labels.append(query[at : at + length])
        at += length
    return None
