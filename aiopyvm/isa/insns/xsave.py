"""XSAVE and its like: components of the state in memory, and XCR0 (Intel SDM vol. 1, chapter 13).

EDX:EAX names the components; those of them that XCR0 has are meant. A component that is not meant is not accessed: the
places of its pieces are then in the header, which always is, so that all that may fault comes before any effect.

A component is *in use* where it is not in its initial configuration. The processor may say so of one that is (it keeps
count of instructions, not of values); here the values alone decide, on every engine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

from aiopyvm.ir.types import F80, I8, I16, I64, I80, I128, V128, V256
from aiopyvm.isa import fxarea
from aiopyvm.isa.fxarea import Load, Pieces
from aiopyvm.isa.places import MemoryPlace
from aiopyvm.isa.spec import form, insn
from aiopyvm.isa.state import MXCSR_RESET
from aiopyvm.isa.vectors import GP
from aiopyvm.isa.x87 import INITIAL_CONTROL
from aiopyvm.isa.xarea import (
    AVX,
    COMPACTED,
    HEADER,
    HEADER_SIZE,
    MXCSR_MASK,
    REGISTERS,
    SSE,
    STEP,
    X87,
    XCOMP_BV,
    XCR0,
    XSAVE_SIZE,
    YMM_HIGH,
)

if TYPE_CHECKING:
    from aiopyvm.ir.builder import Value
    from aiopyvm.isa.trace import Tracer

_ALIGNMENT = 64
_FIELDS = ("fsw", "ftop", "fvalid", "fop", "fip", "fcs", "fds", "fdp")  # of the x87, initially 0


def _has(components: Value, *some: int) -> Value:
    """Whether some of these components are among those (i8)."""
    return (components & sum(some)).ne(0)


def _requested(b: Tracer) -> Value:
    """The components that EDX:EAX and XCR0 both have (i8)."""
    return b.get("eax").trunc(8) & XCR0


def _halves(b: Tracer, number: int) -> tuple[Value, Value]:
    """The lower and the upper half of a YMM register (i128)."""
    whole = b.get_vector(f"ymm{number}", V256)
    return whole.shuffle((0, 1)).cast(I128), whole.shuffle((2, 3)).cast(I128)


# -- what is in use ----------------------------------------------------------------------------------------------------


def _any_bits(values: list[Value]) -> Value:
    """Whether some of the values, of one type, is not 0 (i1)."""
    return reduce(lambda x, y: x | y, values).ne(0)


def _in_use(b: Tracer) -> Value:
    """The components that are not in their initial configuration (i8)."""
    words = [b.get(name).zext(32) for name in _FIELDS] + [(b.get("fcw") ^ INITIAL_CONTROL).zext(32)]
    x87 = _any_bits(words) | _any_bits([b.getfp(b.const(n, I8)).cast(I80) for n in range(REGISTERS)])
    sse, avx = (_any_bits(list(halves)) for halves in zip(*(_halves(b, n) for n in range(REGISTERS)), strict=True))
    sse = sse | b.get("mxcsr").ne(MXCSR_RESET)
    return x87.zext(8) | sse.zext(8) << 1 | avx.zext(8) << 2


# -- XSAVE -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Part:
    """Pieces that are stored together, where `wanted` (i1)."""

    wanted: Value
    pieces: Pieces


def _parts(b: Tracer, saved: Value, mxcsr: Value) -> list[_Part]:
    """The parts of an area, for the components of `saved` (i8), with MXCSR where `mxcsr` (i1)."""
    high = [(YMM_HIGH + STEP * n, _halves(b, n)[1]) for n in range(REGISTERS)]
    return [
        _Part(_has(saved, X87), fxarea.x87_pieces(b)),
        _Part(mxcsr, fxarea.mxcsr_piece(b)),
        _Part(_has(saved, SSE), fxarea.xmm_pieces(b)),
        _Part(_has(saved, AVX), high),
    ]


def _store(b: Tracer, dst: MemoryPlace, parts: list[_Part], header: list[tuple[int, Value]]) -> None:
    """Store the parts that are wanted, and words of the header; faults before the first."""
    for at, word in header:
        dst.prepare_store(word.bits // 8, at)
    places = [[_place(b, dst, part.wanted, at) for at, _ in part.pieces] for part in parts]
    for part, own in zip(parts, places, strict=True):
        for place, (_, piece) in zip(own, part.pieces, strict=True):
            place.prepare_store(piece.bits // 8)
    for part, own in zip(parts, places, strict=True):
        with b.when(part.wanted):
            for place, (_, piece) in zip(own, part.pieces, strict=True):
                place.store(piece)
    for at, word in header:
        dst.store(word, at)


def _place(b: Tracer, area: MemoryPlace, wanted: Value, at: int) -> MemoryPlace:
    """The place `at` bytes behind the area's begin; one in its header where it is not wanted."""
    return area.displaced(b.select(wanted, b.const(at), HEADER))


def _begin(b: Tracer, dst: MemoryPlace) -> Value:
    """The requested components (i8); faults as for the last byte that they need."""
    fxarea.align(b, dst, _ALIGNMENT)
    requested = _requested(b)
    last = b.select(_has(requested, AVX), b.const(XSAVE_SIZE - 1), YMM_HIGH - 1)
    dst.displaced(last).prepare_store(1)
    return requested


def _save(b: Tracer, dst: MemoryPlace, wanted: Callable[[Value, Value], Value]) -> None:
    """Store in the standard format those of the requested components (i8) that `wanted` leaves, given those in use."""
    requested, used = _begin(b, dst), _in_use(b)
    before = dst.load_as(I64, HEADER)
    now = before & ~requested.zext(64) | (used & requested).zext(64)
    _store(b, dst, _parts(b, wanted(requested, used), _has(requested, SSE, AVX)), [(HEADER, now)])


@insn("xsave", source="Intel SDM vol. 2D, XSAVE", cpuid="xsave")
@form("NP 0F AE /4", "mem")
def xsave(b: Tracer, dst: MemoryPlace) -> None:
    """dst := the requested components, in the standard format; #GP unless it is aligned to 64."""
    _save(b, dst, lambda requested, used: requested)


@insn("xsaveopt", source="Intel SDM vol. 2D, XSAVEOPT", cpuid="xsaveopt")
@form("NP 0F AE /6", "mem")
def xsaveopt(b: Tracer, dst: MemoryPlace) -> None:
    """dst := those of the requested components that are in use."""
    _save(b, dst, lambda requested, used: requested & used)


@insn("xsavec", source="Intel SDM vol. 2D, XSAVEC", cpuid="xsavec")
@form("NP 0F C7 /4", "mem")
def xsavec(b: Tracer, dst: MemoryPlace) -> None:
    """dst := those of the requested components that are in use, in the compacted format; MXCSR is SSE's."""
    requested = _begin(b, dst)
    saved = requested & _in_use(b)
    header = [(HEADER, saved.zext(64)), (XCOMP_BV, requested.zext(64) | COMPACTED)]
    _store(b, dst, _parts(b, saved, _has(saved, SSE)), header)


# -- XRSTOR ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Header:
    """What an area's header says of the requested components (i8): which to load, which to initialise."""

    compacted: Value  # i1
    loaded: Value
    initial: Value


def _load_header(b: Tracer, src: MemoryPlace) -> _Header:
    """Read the header; #GP for what it may not have."""
    format_, present = src.load_as(I64, XCOMP_BV), src.load_as(I64, HEADER)
    rest = [src.load_as(I64, at) for at in range(XCOMP_BV + 8, HEADER + HEADER_SIZE, 8)]
    compacted = format_.bit(63)
    unknown = b.select(compacted, present & ~format_ | format_ & ~(COMPACTED | XCR0), present & ~XCR0 | format_)
    b.fault(GP, unknown.ne(0) | rest[0].ne(0) | compacted & _any_bits(rest))
    requested, there = _requested(b), present.trunc(8)
    return _Header(compacted, requested & there, requested & ~there)


def _loading(b: Tracer, src: MemoryPlace, wanted: Value) -> Load:
    """Loads from the area where `wanted`; anything else."""
    return lambda type_, at: _place(b, src, wanted, at).load_as(type_)


def _load_mxcsr(b: Tracer, src: MemoryPlace, header: _Header) -> Value:
    """MXCSR as it will be (i32). In the standard format it is in no component, but goes with either that it rules."""
    asked = _has(header.loaded | header.initial, SSE, AVX)
    loaded = b.select(header.compacted, _has(header.loaded, SSE), asked)
    initial = header.compacted & _has(header.initial, SSE)
    value = fxarea.load_mxcsr(b, _loading(b, src, loaded))
    b.fault(GP, loaded & (value & ~MXCSR_MASK).ne(0))
    return b.select(loaded, value, b.select(initial, b.const(MXCSR_RESET), b.get("mxcsr")))


def _chosen(b: Tracer, header: _Header, component: int, value: Value, now: Value) -> Value:
    """A register of a component as it will be: loaded, initial (0) or as it is now."""
    return b.select(
        _has(header.loaded, component), value, b.select(_has(header.initial, component), value ^ value, now)
    )


@insn("xrstor", source="Intel SDM vol. 2D, XRSTOR", cpuid="xsave")
@form("NP 0F AE /5", "mem")
def xrstor(b: Tracer, src: MemoryPlace) -> None:
    """The requested components := src, whichever its format; those that it has not get their initial values."""
    fxarea.align(b, src, _ALIGNMENT)
    header = _load_header(b, src)
    loads = {component: _loading(b, src, _has(header.loaded, component)) for component in (X87, SSE, AVX)}
    mxcsr, x87 = _load_mxcsr(b, src, header), fxarea.load_x87(loads[X87])
    low = fxarea.load_xmm(loads[SSE])
    high = [loads[AVX](V128, YMM_HIGH + STEP * n) for n in range(REGISTERS)]
    vectors = [
        _chosen(b, header, SSE, low[n].cast(I128), halves[0])
        .cast(V128)
        .shuffle(range(4), _chosen(b, header, AVX, high[n].cast(I128), halves[1]).cast(V128))
        for n, halves in enumerate(_halves(b, n) for n in range(REGISTERS))
    ]
    loaded, initial = (_has(components, X87) for components in (header.loaded, header.initial))
    control = b.select(loaded, x87.control, b.select(initial, b.const(INITIAL_CONTROL, I16), b.get("fcw")))
    b.set("mxcsr", mxcsr)
    b.set("fcw", control)
    with b.when(loaded):
        x87.apply(b)
    with b.when(initial):
        _initialise(b)
    for n, vector in enumerate(vectors):
        b.set_vector(f"ymm{n}", vector)


def _initialise(b: Tracer) -> None:
    """The x87's initial configuration, but for the control word."""
    for name in _FIELDS:
        b.set(name, 0)
    for number in range(REGISTERS):
        b.setfp(b.const(number, I8), b.const(0, F80))


# -- XCR0 --------------------------------------------------------------------------------------------------------------


@insn("xgetbv", source="Intel SDM vol. 2D, XGETBV", cpuid="xsave")
@form("NP 0F 01 D0")
def xgetbv(b: Tracer) -> None:
    """EDX:EAX := XCR0 for ECX = 0, those of its components that are in use for ECX = 1; #GP for others."""
    number = b.get("ecx")
    b.fault(GP, b.const(1).ult(number))
    b.set("eax", b.select(number.eq(0), b.const(XCR0), _in_use(b).zext(32)))
    b.set("edx", 0)
