"""The resolver of a guest's network, message by message (RFC 1035, RFC 3596)."""

from __future__ import annotations

import struct

import pytest

from aiopyvm.abi.errno import ENETUNREACH
from aiopyvm.abi.inet import LOOPBACK4, MAPPED
from aiopyvm.kernel import dns
from aiopyvm.kernel.inet import Inet, Network

A, PTR, AAAA, NXDOMAIN = 1, 12, 28, 3
WEB = MAPPED + b"\xc6\x12\0\1"
REVERSE6 = "1." + "0." * 31 + "ip6.arpa"


class Granted:
    """A gateway that knows one name."""

    def resolve(self, name: bytes) -> bytes | None:
        return WEB if name == b"web.test" else None

    def name_of(self, ip: bytes) -> bytes | None:
        return b"web.test" if ip == WEB else None

    def connect(self, caller: object) -> bool:
        return False

    def send(self, sender: object, each: object, port: int) -> int:
        return ENETUNREACH


def packed(name: str) -> bytes:
    return b"".join(bytes((len(label),)) + label.encode() for label in name.split(".")) + b"\0"


def asked(host: Inet, name: str, kind: int) -> tuple[int, bytes | None]:
    """Return the code of the answer, and its record's data."""
    question = packed(name) + struct.pack(">HH", kind, 1)
    answer = dns.answer(struct.pack(">6H", 7, 0x100, 1, 0, 0, 0) + question, host.resolve, host.name_of)
    assert answer is not None
    number, flags, questions, records, _, _ = struct.unpack_from(">6H", answer)
    assert (number, flags >> 4, questions) == (7, 0x858, 1)
    assert answer[12 : 12 + len(question)] == question
    rest = answer[12 + len(question) :]
    if not records:
        assert not rest
        return flags & 15, None
    assert struct.unpack_from(">HHHIH", rest) == (0xC00C, kind, 1, 60, len(rest) - 12)
    return flags & 15, rest[12:]


@pytest.fixture
def host() -> Inet:
    network, made, other = Network(), Inet(), Inet()
    network.join(made, (b"Mine", b"mine.lan"))
    network.join(other, (b"x" * 64, b"other"))
    made.gateway = Granted()
    return made


@pytest.mark.parametrize(
    ("name", "kind", "code", "data"),
    [
        ("localhost", A, 0, LOOPBACK4[12:]),
        ("localhost", PTR, 0, None),
        ("WEB.test", A, 0, WEB[12:]),
        ("web.test", AAAA, 0, None),
        ("gone.test", A, NXDOMAIN, None),
        ("1.0.0.127.in-addr.arpa", PTR, 0, packed("localhost")),
        ("1.0.0.127.IN-ADDR.ARPA", PTR, 0, packed("localhost")),
        ("1.0.0.127.in-addr.arpa", A, 0, None),
        ("2.0.0.127.in-addr.arpa", PTR, NXDOMAIN, None),
        ("1.0.18.198.in-addr.arpa", PTR, 0, packed("web.test")),
        ("2.0.18.198.in-addr.arpa", PTR, NXDOMAIN, None),
        ("2.0.0.10.in-addr.arpa", PTR, 0, packed("mine")),
        ("3.0.0.10.in-addr.arpa", PTR, 0, None),  # its name is longer than a label can be
        ("4.0.0.10.in-addr.arpa", PTR, NXDOMAIN, None),
        (REVERSE6, PTR, 0, packed("localhost")),
        ("2" + REVERSE6[1:], PTR, NXDOMAIN, None),
        ("256.0.0.127.in-addr.arpa", PTR, NXDOMAIN, None),
        ("0.0.127.in-addr.arpa", PTR, NXDOMAIN, None),
        ("g" + REVERSE6[1:], PTR, NXDOMAIN, None),
    ],
)
def test_questions(host: Inet, name: str, kind: int, code: int, data: bytes | None) -> None:
    assert asked(host, name, kind) == (code, data)


def test_a_name_that_another_host_took_is_not_told(host: Inet) -> None:
    assert host.network is not None
    host.network.join(Inet(), (b"mine",))
    assert asked(host, "2.0.0.10.in-addr.arpa", PTR) == (0, packed("mine.lan"))
