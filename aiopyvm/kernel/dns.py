"""A resolver for names of one's own network: answers messages of DNS (RFC 1035) from a function, and asks nobody.

What always holds: whatever the query, the answer is None or one message; nothing of it is kept.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from aiopyvm.abi.inet import MAPPED, is_mapped

PORT: Final = 53
_HEADER: Final = struct.Struct(">6H")
_QUESTION: Final = struct.Struct(">HH")
_ANSWER: Final = struct.Struct(">HHHIH")
_NAME: Final = 0xC000 | _HEADER.size  # where the question's name stands
TYPE_A: Final = 1
TYPE_PTR: Final = 12
TYPE_AAAA: Final = 28
CLASS_IN: Final = 1
QUERY_BITS: Final = 0xF800  # of the flags: it is an answer, and what kind of query
RECURSION_DESIRED: Final = 0x0100
ANSWERED: Final = 0x8480  # an answer, of an authority, which would recurse
NO_SUCH_NAME: Final = 3
LIFETIME_S: Final = 60
LONGEST_LABEL: Final = 63
LONGEST_NAME: Final = 253
_REVERSE4: Final = b".in-addr.arpa"
_REVERSE6: Final = b".ip6.arpa"
_NIBBLES: Final = b"0123456789abcdef"


def answer(
    query: bytes, lookup: Callable[[bytes], bytes | None], name_of: Callable[[bytes], bytes | None]
) -> bytes | None:
    """Return the answer to a query; None where it is none that one answers.

    `lookup` returns the address (16 bytes, as in abi/inet.py) of a name in lower case, `name_of` the name of an
    address; both None where there is none.
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
    data = _data(name.lower(), kind, lookup, name_of) if klass == CLASS_IN else None
    records = _ANSWER.pack(_NAME, kind, CLASS_IN, LIFETIME_S, len(data)) + data if data else b""
    code = NO_SUCH_NAME if data is None else 0
    flags = ANSWERED | flags & RECURSION_DESIRED | code
    return _HEADER.pack(number, flags, 1, bool(records), 0, 0) + question + records


def _data(
    name: bytes, kind: int, lookup: Callable[[bytes], bytes | None], name_of: Callable[[bytes], bytes | None]
) -> bytes | None:
    """Return a record's data; b"" where the name has none of that kind, None where there is no such name."""
    address = _address_in(name)
    if address is not None:
        found = name_of(address)
        if found is None or kind != TYPE_PTR:
            return None if found is None else b""
        return _packed(found)
    ip = lookup(name)
    if ip is None or kind != (TYPE_A if is_mapped(ip) else TYPE_AAAA):
        return None if ip is None else b""
    return ip[12:] if kind == TYPE_A else ip


def _packed(name: bytes) -> bytes:
    """Return a name as messages have it; b"" for one that no message can have."""
    labels = name.split(b".")
    if len(name) > LONGEST_NAME or not all(0 < len(label) <= LONGEST_LABEL for label in labels):
        return b""
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"


def _address_in(name: bytes) -> bytes | None:
    """Return the address that a name of in-addr.arpa or ip6.arpa stands for (RFC 1035 3.5, RFC 3596 2.5)."""
    if name.endswith(_REVERSE4):
        parts = name.removesuffix(_REVERSE4).split(b".")
        if len(parts) == 4 and all(part.isdigit() and len(part) <= 3 and int(part) < 256 for part in parts):
            return MAPPED + bytes(int(part) for part in reversed(parts))
    if name.endswith(_REVERSE6):
        parts = name.removesuffix(_REVERSE6).split(b".")
        if len(parts) == 32 and all(len(part) == 1 and part in _NIBBLES for part in parts):
            return bytes.fromhex(b"".join(reversed(parts)).decode())
    return None


def _name_at(query: bytes, at: int) -> tuple[bytes, int] | None:
    """Return the name that stands at `at`, and where it ends; None for one that is cut off or compressed."""
    labels: list[bytes] = []
    while at < len(query):
        length = query[at]
        at += 1
        if length == 0:
            return b".".join(labels), at
        if length > LONGEST_LABEL or at + length > len(query) or at > 255 + _HEADER.size:
            return None
        labels.append(query[at : at + length])
        at += length
    return None
