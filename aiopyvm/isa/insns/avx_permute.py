"""What AVX and AVX2 have anew that moves, tests and shifts lanes: broadcasts, halves of YMM, permutations."""

from __future__ import annotations

from collections.abc import Callable

from aiopyvm.ir.builder import Value
from aiopyvm.ir.types import Type, integer
from aiopyvm.isa.packed import set_by_test, shuffled
from aiopyvm.isa.places import ImmediatePlace, MemoryPlace, VectorPlace
from aiopyvm.isa.spec import form, insn
from aiopyvm.isa.sse import Source, low, whole
from aiopyvm.isa.state import OSZAPC
from aiopyvm.isa.trace import Tracer
from aiopyvm.isa.vexrows import BOTH, XMM, YMM, only_avx

_KIND = {XMM: "xmm", YMM: "ymm"}

# -- one number or half in all of a register ---------------------------------------------------------------------------


def _broadcast(type_: Type) -> Callable[[Tracer, VectorPlace, Source], None]:
    def meaning(b: Tracer, dst: VectorPlace, src: Source) -> None:
        """All of dst := the low part of src, as often as it fits."""
        dst.store(low(b, src, type_).splat(dst.width // type_.size))

    return meaning


for _bits, _name, _opcode, _lengths in ((32, "vbroadcastss", "18", BOTH), (64, "vbroadcastsd", "19", (YMM,))):
    for _length in _lengths:
        _encoding = f"VEX.{_length}.66.0F38.W0 {_opcode} /r"
        only_avx(_name, _encoding, f"{_KIND[_length]}1, m{_bits}", _broadcast(integer(_bits)))
        only_avx(_name, _encoding, f"{_KIND[_length]}1, xmm2", _broadcast(integer(_bits)), feature="avx2")
for _bits, _name, _opcode in ((8, "b", "78"), (16, "w", "79"), (32, "d", "58"), (64, "q", "59")):
    for _length in BOTH:
        only_avx(
            f"vpbroadcast{_name}", f"VEX.{_length}.66.0F38.W0 {_opcode} /r", f"{_KIND[_length]}1, xmm2/m{_bits}",
            _broadcast(integer(_bits)), feature="avx2",
        )  # fmt: skip


def _broadcast_half(b: Tracer, dst: VectorPlace, src: MemoryPlace) -> None:
    """Both halves of dst := src."""
    dst.store(whole(src).shuffle((0, 1, 0, 1)))


# -- halves of YMM -----------------------------------------------------------------------------------------------------


def _insert_half(b: Tracer, dst: VectorPlace, first: VectorPlace, second: Source, half: ImmediatePlace) -> None:
    """dst := src1, but src2 as one half."""
    kept, new = first.load(), whole(second).shuffle((0, 1, 0, 1))
    dst.store(kept.shuffle((0, 1, 4, 5) if int(half) & 1 else (4, 5, 2, 3), new))


def _extract_half(b: Tracer, dst: Source, src: VectorPlace, half: ImmediatePlace) -> None:
    """dst := one half of src."""
    dst.store(src.load().shuffle((2, 3) if int(half) & 1 else (0, 1)))


def _permute_halves(b: Tracer, dst: VectorPlace, first: VectorPlace, second: Source, control: ImmediatePlace) -> None:
    """Each half of dst := a half of src1 or src2, or 0."""
    x, y = first.load(), whole(second)
    zero = b.const(0, integer(64, 4))
    halves = [
        (int(control) >> shift & 1, int(control) >> shift + 1 & 1, int(control) >> shift + 3 & 1) for shift in (0, 4)
    ]
    parts = [
        (zero if none else y if other else x).shuffle((0, 1) if not high else (2, 3)) for high, other, none in halves
    ]
    dst.store(parts[0].shuffle((0, 1, 2, 3), parts[1]))


for _suffix, _feature, _offset in (("f128", "avx", 0), ("i128", "avx2", 0x20)):
    _form = "VEX.256.66.0F3A.W0 {:02X} /r ib"
    only_avx(
        f"vinsert{_suffix}", _form.format(0x18 + _offset), "ymm1, ymm2, xmm3/m128, imm8", _insert_half,
        feature=_feature, static=(3,),
    )  # fmt: skip
    only_avx(
        f"vextract{_suffix}", _form.format(0x19 + _offset), "xmm1/m128, ymm2, imm8", _extract_half,
        feature=_feature, static=(2,),
    )  # fmt: skip
    only_avx(
        f"vperm2{_suffix}", _form.format(0x06 + 2 * _offset), "ymm1, ymm2, ymm3/m256, imm8", _permute_halves,
        feature=_feature, static=(3,),
    )  # fmt: skip
    only_avx(
        f"vbroadcast{_suffix}", f"VEX.256.66.0F38.W0 {0x1A + 2 * _offset:02X} /r", "ymm1, m128", _broadcast_half,
        feature=_feature,
    )  # fmt: skip


# -- permutations ------------------------------------------------------------------------------------------------------


def _choose_ps(b: Tracer, dst: VectorPlace, first: VectorPlace, second: Source) -> None:
    """Lanes of src1, within each 128 bits, whose numbers are in those of src2."""
    x, numbers = first.load().lanes(32), whole(second).lanes(32) & 3
    if dst.width == YMM:
        numbers = numbers | b.const(integer(32, 8).join([0] * 4 + [4] * 4), integer(32, 8))
    dst.store(x.permute(numbers))


def _choose_pd(b: Tracer, dst: VectorPlace, first: VectorPlace, second: Source) -> None:
    """Lanes of src1, within each 128 bits, that bit 1 of those of src2 numbers."""
    x, high = first.load(), (whole(second) & 2).eq(0)
    lower = shuffled(x, x, lambda own, _: (own[0], own[0]))
    dst.store(b.select(high, lower, shuffled(x, x, lambda own, _: (own[1], own[1]))))


def _choose_ps_by_immediate(b: Tracer, dst: VectorPlace, src: Source, order: ImmediatePlace) -> None:
    """Lanes of src, within each 128 bits, that fields of two bits number."""
    x = whole(src).lanes(32)
    dst.store(shuffled(x, x, lambda own, _: (own[int(order) >> 2 * n & 3] for n in range(4))))


def _choose_pd_by_immediate(b: Tracer, dst: VectorPlace, src: Source, order: ImmediatePlace) -> None:
    """Lanes of src, within each 128 bits, that single bits number."""
    x = whole(src)
    dst.store(shuffled(x, x, lambda own, _: (own[int(order) >> n & 1] for n in own)))


def _choose_of_four(b: Tracer, dst: VectorPlace, src: Source, order: ImmediatePlace) -> None:
    """Lanes of src, of 64 bits, that fields of two bits number."""
    dst.store(whole(src).shuffle(int(order) >> 2 * n & 3 for n in range(4)))


def _choose_of_eight(b: Tracer, dst: VectorPlace, numbers: VectorPlace, src: Source) -> None:
    """Lanes of src2, of 32 bits, whose numbers are in those of src1."""
    chosen = numbers.load().lanes(32)
    dst.store(whole(src).lanes(32).permute(chosen))


for _length in BOTH:
    _v, _m = _KIND[_length], _length
    for _suffix, _by_vector, _by_immediate, _number in (
        ("ps", _choose_ps, _choose_ps_by_immediate, 0),
        ("pd", _choose_pd, _choose_pd_by_immediate, 1),
    ):
        only_avx(
            f"vpermil{_suffix}",
            f"VEX.{_m}.66.0F38.W0 {0x0C + _number:02X} /r",
            f"{_v}1, {_v}2, {_v}3/m{_m}",
            _by_vector,
        )
        only_avx(
            f"vpermil{_suffix}", f"VEX.{_m}.66.0F3A.W0 {4 + _number:02X} /r ib", f"{_v}1, {_v}2/m{_m}, imm8",
            _by_immediate, static=(2,),
        )  # fmt: skip
for _name, _number in (("q", 0), ("pd", 1)):
    only_avx(
        f"vperm{_name}", f"VEX.256.66.0F3A.W1 {_number:02X} /r ib", "ymm1, ymm2/m256, imm8", _choose_of_four,
        feature="avx2", static=(2,),
    )  # fmt: skip
only_avx("vpermd", "VEX.256.66.0F38.W0 36 /r", "ymm1, ymm2, ymm3/m256", _choose_of_eight, feature="avx2")
only_avx("vpermps", "VEX.256.66.0F38.W0 16 /r", "ymm1, ymm2, ymm3/m256", _choose_of_eight, feature="avx2")


# -- blends, tests, shifts by lanes ------------------------------------------------------------------------------------


def _blend_dwords(b: Tracer, dst: VectorPlace, first: VectorPlace, second: Source, chosen: ImmediatePlace) -> None:
    """Lanes of src1, or of src2 where the immediate's bit is set."""
    x, y = first.load().lanes(32), whole(second).lanes(32)
    lanes = dst.width // 32
    dst.store(x.shuffle((n + lanes * (int(chosen) >> n & 1) for n in range(lanes)), y))


def _shift_each(bits: int, shift: Callable[[Value, Value], Value]) -> Callable[..., None]:
    def meaning(b: Tracer, dst: VectorPlace, first: VectorPlace, second: Source) -> None:
        """Lanes of src1, each shifted by that of src2."""
        dst.store(shift(first.load().lanes(bits), whole(second).lanes(bits)))

    return meaning


_SHIFTS: tuple[tuple[str, str, str, int, Callable[[Value, Value], Value]], ...] = (
    ("vpsllvd", "47", "W0", 32, lambda x, n: x << n),
    ("vpsllvq", "47", "W1", 64, lambda x, n: x << n),
    ("vpsrlvd", "45", "W0", 32, lambda x, n: x >> n),
    ("vpsrlvq", "45", "W1", 64, lambda x, n: x >> n),
    ("vpsravd", "46", "W0", 32, lambda x, n: x.sar(n)),
)
for _length in BOTH:
    _three = f"{_KIND[_length]}1, {_KIND[_length]}2, {_KIND[_length]}3/m{_length}"
    only_avx(
        "vpblendd", f"VEX.{_length}.66.0F3A.W0 02 /r ib", f"{_three}, imm8", _blend_dwords, feature="avx2", static=(3,)
    )
    for _name, _opcode, _w, _bits, _shift in _SHIFTS:
        only_avx(_name, f"VEX.{_length}.66.0F38.{_w} {_opcode} /r", _three, _shift_each(_bits, _shift), feature="avx2")


def _define_test(suffix: str, opcode: str, bits: int) -> None:
    name = f"vtest{suffix}"

    @insn(name, source=f"Intel SDM vol. 2C, {name.upper()}", writes=OSZAPC, cpuid="avx")
    @form(f"VEX.128.66.0F38.W0 {opcode} /r", "xmm1, xmm2/m128")
    @form(f"VEX.256.66.0F38.W0 {opcode} /r", "ymm1, ymm2/m256")
    def test(b: Tracer, first: VectorPlace, second: Source) -> None:
        """ZF and CF as PTEST has them, of the lanes' signs."""
        y = whole(second)
        set_by_test(b, first.load(), y, bits)


_define_test("ps", "0E", 32)
_define_test("pd", "0F", 64)
