"""What the SHA instructions compute, as functions of 128-bit ints (FIPS 180-4; Intel SDM vol. 2B, SHA1RNDS4 and on).

Doubleword n is bits 32n to 32n + 31. The manual counts some operands from the other end.
"""

from __future__ import annotations

from typing import Final

from aiopyvm.ir.helpers import helper

_MASK: Final = 0xFFFFFFFF
_CONSTANTS: Final = (0x5A827999, 0x6ED9EBA1, 0x8F1BBCDC, 0xCA62C1D6)


def _words(x: int) -> list[int]:
    return [x >> 32 * n & _MASK for n in range(4)]


def _joined(*words: int) -> int:
    return sum((word & _MASK) << 32 * n for n, word in enumerate(words))


def _left(x: int, n: int) -> int:
    return (x << n | x >> 32 - n) & _MASK


def _right(x: int, n: int) -> int:
    return _left(x, 32 - n)


def _choice(x: int, y: int, z: int) -> int:
    return x & y ^ ~x & z & _MASK


def _parity(x: int, y: int, z: int) -> int:
    return x ^ y ^ z


def _majority(x: int, y: int, z: int) -> int:
    return x & y ^ x & z ^ y & z


_FUNCTIONS: Final = (_choice, _parity, _majority, _parity)


@helper()
def sha1rnds4(state: int, message: int, stage: int) -> int:
    """Four rounds of SHA-1, the function and the constant those of `stage` (0..3)."""
    d, c, b, a = _words(state)
    function, constant, e = _FUNCTIONS[stage & 3], _CONSTANTS[stage & 3], 0
    for word in reversed(_words(message)):
        a, b, c, d, e = (function(b, c, d) + _left(a, 5) + word + e + constant) & _MASK, a, _left(b, 30), c, d
    return _joined(d, c, b, a)


@helper()
def sha1nexte(state: int, message: int) -> int:
    """`message` with E of the next round, from A of `state`, added to its highest doubleword."""
    *rest, top = _words(message)
    return _joined(*rest, top + _left(_words(state)[3], 30))


@helper()
def sha1msg1(x: int, y: int) -> int:
    """The first step towards the next four words of the message."""
    w3, w2, w1, w0 = _words(x)
    w5, w4 = _words(y)[2:]
    return _joined(w5 ^ w3, w4 ^ w2, w3 ^ w1, w2 ^ w0)


@helper()
def sha1msg2(x: int, y: int) -> int:
    """The last step towards the next four words of the message."""
    x3, x2, x1, x0 = _words(x)
    w15, w14, w13, _ = _words(y)
    w16, w17, w18 = _left(x0 ^ w13, 1), _left(x1 ^ w14, 1), _left(x2 ^ w15, 1)
    return _joined(_left(x3 ^ w16, 1), w18, w17, w16)


@helper()
def sha256rnds2(x: int, y: int, keys: int) -> int:
    """Two rounds of SHA-256: of the state CDGH in x and ABEF in y, with the words and constants in `keys`."""
    h, g, d, c = _words(x)
    f, e, b, a = _words(y)
    for key in _words(keys)[:2]:
        first = _choice(e, f, g) + (_right(e, 6) ^ _right(e, 11) ^ _right(e, 25)) + key + h
        second = _majority(a, b, c) + (_right(a, 2) ^ _right(a, 13) ^ _right(a, 22))
        a, b, c, d, e, f, g, h = (first + second) & _MASK, a, b, c, (first + d) & _MASK, e, f, g
    return _joined(f, e, b, a)


@helper()
def sha256msg1(x: int, y: int) -> int:
    """The first step towards the next four words of the message."""
    words = [*_words(x), _words(y)[0]]
    return _joined(*(words[n] + (_right(w, 7) ^ _right(w, 18) ^ w >> 3) for n, w in enumerate(words[1:])))


@helper()
def sha256msg2(x: int, y: int) -> int:
    """The last step towards the next four words of the message."""
    words = _words(y)[2:]
    for n, word in enumerate(_words(x)):
        w = words[n]
        words.append(word + (_right(w, 17) ^ _right(w, 19) ^ w >> 10) & _MASK)
    return _joined(*words[2:])


__all__ = ["sha1msg1", "sha1msg2", "sha1nexte", "sha1rnds4", "sha256msg1", "sha256msg2", "sha256rnds2"]
