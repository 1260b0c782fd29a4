"""Arithmetic, comparisons and logic on integer lanes: MMX, and what SSE to SSE4.2 add to it."""

from __future__ import annotations

from aiopyvm.ir.builder import Value
from aiopyvm.isa.packed import define, each, groups, shuffled
from aiopyvm.isa.vexrows import XMM


def _saturating(op: str, x: Value, y: Value) -> Value:
    return x.saturating(op, y)


for _width, _add, _sub, _bits in (
    ("b", 0xFC, 0xF8, 8), ("w", 0xFD, 0xF9, 16), ("d", 0xFE, 0xFA, 32), ("q", 0xD4, 0xFB, 64),
):  # fmt: skip
    _feature = "sse2" if _width == "q" else "mmx"
    define(f"padd{_width}", f"0F {_add:02X} /r", _bits, lambda x, y: x + y, mm=_feature)
    define(f"psub{_width}", f"0F {_sub:02X} /r", _bits, lambda x, y: x - y, mm=_feature)

for _opcode, _name, _op, _bits in (
    (0xDC, "paddusb", "uadds", 8), (0xDD, "paddusw", "uadds", 16),
    (0xEC, "paddsb", "sadds", 8), (0xED, "paddsw", "sadds", 16),
    (0xD8, "psubusb", "usubs", 8), (0xD9, "psubusw", "usubs", 16),
    (0xE8, "psubsb", "ssubs", 8), (0xE9, "psubsw", "ssubs", 16),
):  # fmt: skip
    define(_name, f"0F {_opcode:02X} /r", _bits, lambda x, y, op=_op: _saturating(op, x, y), mm="mmx")

for _width, _bits, _equal, _greater in (("b", 8, 0x74, 0x64), ("w", 16, 0x75, 0x65), ("d", 32, 0x76, 0x66)):
    define(f"pcmpeq{_width}", f"0F {_equal:02X} /r", _bits, lambda x, y: each(x, x.eq(y)), mm="mmx")
    define(f"pcmpgt{_width}", f"0F {_greater:02X} /r", _bits, lambda x, y: each(x, y.slt(x)), mm="mmx")
define("pcmpeqq", "0F 38 29 /r", 64, lambda x, y: each(x, x.eq(y)), xmm="sse4_1")
define("pcmpgtq", "0F 38 37 /r", 64, lambda x, y: each(x, y.slt(x)), xmm="sse4_2")

define("pand", "0F DB /r", 64, lambda x, y: x & y, mm="mmx")
define("pandn", "0F DF /r", 64, lambda x, y: ~x & y, mm="mmx")
define("por", "0F EB /r", 64, lambda x, y: x | y, mm="mmx")
define("pxor", "0F EF /r", 64, lambda x, y: x ^ y, mm="mmx")


# -- products ----------------------------------------------------------------------------------------------------------


def _high(x: Value, y: Value, widen: str) -> Value:
    """The high halves of products of 16-bit lanes."""
    wide = [value.sext(32) if widen == "sext" else value.zext(32) for value in (x, y)]
    return (wide[0] * wide[1] >> 16).trunc(16)


def _signed_halves(x: Value) -> tuple[Value, Value]:
    """The low and the high half of each lane, sign-extended to the lane."""
    assert x.type is not None
    half = x.type.bits // 2
    return (x << half).sar(half), x.sar(half)


def _pmaddwd(x: Value, y: Value) -> Value:
    (a, b), (c, d) = _signed_halves(x), _signed_halves(y)
    return a * c + b * d


def _pmaddubsw(x: Value, y: Value) -> Value:
    low, high = _signed_halves(y)
    return ((x & 0xFF) * low).saturating("sadds", (x >> 8) * high)


def _pmulhrsw(x: Value, y: Value) -> Value:
    return ((x.sext(32) * y.sext(32) >> 14) + 1 >> 1).trunc(16)


define("pmullw", "0F D5 /r", 16, lambda x, y: x * y, mm="mmx")
define("pmulld", "0F 38 40 /r", 32, lambda x, y: x * y, xmm="sse4_1")
define("pmulhw", "0F E5 /r", 16, lambda x, y: _high(x, y, "sext"), mm="mmx")
define("pmulhuw", "0F E4 /r", 16, lambda x, y: _high(x, y, "zext"), mm="sse")
define("pmulhrsw", "0F 38 0B /r", 16, _pmulhrsw, xmm="ssse3", mm="ssse3")
define("pmuludq", "0F F4 /r", 64, lambda x, y: (x & 0xFFFFFFFF) * (y & 0xFFFFFFFF), mm="sse2")
define("pmuldq", "0F 38 28 /r", 64, lambda x, y: _signed_halves(x)[0] * _signed_halves(y)[0], xmm="sse4_1")
define("pmaddwd", "0F F5 /r", 32, _pmaddwd, mm="mmx")
define("pmaddubsw", "0F 38 04 /r", 16, _pmaddubsw, xmm="ssse3", mm="ssse3")


# -- averages, extremes, differences -----------------------------------------------------------------------------------


def _average(x: Value, y: Value) -> Value:
    assert x.type is not None
    wide = 2 * x.type.bits
    return (x.zext(wide) + y.zext(wide) + 1 >> 1).trunc(x.type.bits)


def _difference(x: Value, y: Value) -> Value:
    """|x - y|, lanes unsigned."""
    return x.saturating("usubs", y) | y.saturating("usubs", x)


def _psadbw(x: Value, y: Value) -> Value:
    """Sums of eight differences, as lanes of 64 bits."""
    pairs = _difference(x, y).lanes(16)
    sums = ((pairs & 0xFF) + (pairs >> 8)).lanes(64)
    return sums * 0x0001000100010001 >> 48


def _minimum(x: Value, y: Value, op: str) -> Value:
    return x.builder.select(getattr(x, op)(y), x, y)


def _maximum(x: Value, y: Value, op: str) -> Value:
    return x.builder.select(getattr(y, op)(x), x, y)


define("pavgb", "0F E0 /r", 8, _average, mm="sse")
define("pavgw", "0F E3 /r", 16, _average, mm="sse")
define("psadbw", "0F F6 /r", 8, _psadbw, mm="sse")
for _name, _least_opcode, _most_opcode, _bits, _op in (
    ("ub", "DA", "DE", 8, "ult"), ("sw", "EA", "EE", 16, "slt"),
    ("sb", "38 38", "38 3C", 8, "slt"), ("sd", "38 39", "38 3D", 32, "slt"),
    ("uw", "38 3A", "38 3E", 16, "ult"), ("ud", "38 3B", "38 3F", 32, "ult"),
):  # fmt: skip
    _xmm, _mm = ("sse2", "sse") if len(_most_opcode) == 2 else ("sse4_1", "")
    define(f"pmin{_name}", f"0F {_least_opcode} /r", _bits, lambda x, y, op=_op: _minimum(x, y, op), xmm=_xmm, mm=_mm)
    define(f"pmax{_name}", f"0F {_most_opcode} /r", _bits, lambda x, y, op=_op: _maximum(x, y, op), xmm=_xmm, mm=_mm)


# -- SSSE3: signs, neighbours ------------------------------------------------------------------------------------------


def _absolute(x: Value) -> Value:
    return x.builder.select(x.slt(0), -x, x)


def _signed_like(x: Value, y: Value) -> Value:
    b = x.builder
    return b.select(y.slt(0), -x, b.select(y.eq(0), 0, x))


def _neighbours(x: Value, y: Value, op: str) -> Value:
    """Of each two neighbouring lanes, the lower one op the higher one: those of x, then those of y."""

    def lanes(first: int) -> Value:
        return shuffled(x, y, lambda own, other: [*own[first::2], *other[first::2]])

    lower, higher = lanes(0), lanes(1)
    if op in ("sadds", "ssubs"):
        return lower.saturating(op, higher)
    return lower + higher if op == "add" else lower - higher


for _name, _opcode, _bits in (("pabsb", 0x1C, 8), ("pabsw", 0x1D, 16), ("pabsd", 0x1E, 32)):
    define(_name, f"0F 38 {_opcode:02X} /r", _bits, _absolute, xmm="ssse3", mm="ssse3", sources=1)
for _name, _opcode, _bits in (("psignb", 0x08, 8), ("psignw", 0x09, 16), ("psignd", 0x0A, 32)):
    define(_name, f"0F 38 {_opcode:02X} /r", _bits, _signed_like, xmm="ssse3", mm="ssse3")
for _name, _opcode, _bits, _op in (
    ("phaddw", 0x01, 16, "add"), ("phaddd", 0x02, 32, "add"), ("phaddsw", 0x03, 16, "sadds"),
    ("phsubw", 0x05, 16, "sub"), ("phsubd", 0x06, 32, "sub"), ("phsubsw", 0x07, 16, "ssubs"),
):  # fmt: skip
    define(
        _name, f"0F 38 {_opcode:02X} /r", _bits,
        lambda x, y, op=_op: _neighbours(x, y, op), xmm="ssse3", mm="ssse3",
    )  # fmt: skip


# -- SSE4.1 ------------------------------------------------------------------------------------------------------------


def _phminposuw(x: Value) -> Value:
    """The least word, and behind it its number."""
    b = x.builder
    assert x.type is not None
    numbers = b.const(0x00070006000500040003000200010000, x.type)
    keys = x.zext(32) << 3 | numbers.zext(32)
    for half in (4, 2):
        keys = _least(keys.shuffle(range(half)), keys.shuffle(range(half, 2 * half)))
    least = _least(keys.extract(0), keys.extract(1))
    return (least >> 3 | (least & 7) << 16).zext(128)


def _least(x: Value, y: Value) -> Value:
    return x.builder.select(x.ult(y), x, y)


def _mpsadbw(x: Value, y: Value, control: int) -> Value:
    """Eight sums of differences between four bytes of y and each four consecutive ones of x, for each 128 bits."""
    total: Value | None = None
    for byte in range(4):
        ours, theirs = [], []
        for number, own in enumerate(groups(x)):
            chosen = control >> 3 * number
            first, fixed = (chosen >> 2 & 1) * 4, (chosen & 3) * 4
            ours += [own[first + at + byte] for at in range(8)]
            theirs += [own[fixed + byte]] * 8
        difference = _difference(x.shuffle(ours), y.shuffle(theirs)).zext(16)
        total = difference if total is None else total + difference
    assert total is not None
    return total


define("phminposuw", "0F 38 41 /r", 16, _phminposuw, xmm="sse4_1", sources=1, lengths=(XMM,))
define("mpsadbw", "0F 3A 42 /r ib", 8, _mpsadbw, xmm="sse4_1", immediate=True)
