"""The transcendental functions: the host's instructions, and the portable definition against numbers that are exact."""

from __future__ import annotations

import ctypes
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import mpmath
import pytest

from aiopyvm.ir.floatformat import BIAS, EXPONENT, INDEFINITE, INFINITY, LSB, SIGN, SIGNIFICAND
from aiopyvm.isa import hostcode, x87function
from aiopyvm.isa.x87host import OF_TWO, OPCODES, host
from aiopyvm.isa.x87operand import fprem_packed
from aiopyvm.isa.x87portable import compute
from tests.hardware import x87_values

ONE: Final = BIAS << 64 | 1 << 63
TWO: Final = ONE + (1 << 64)
HALF: Final = ONE - (1 << 64)
PI: Final = 0x4000C90FDAA22168C235
CONTROLS: Final = [0x37F | rounding << 10 for rounding in range(4)]
IE, DE, ZE, PE, C1 = 1, 2, 4, 0x20, 0x80
QUIET, SIGNALING = INFINITY | 3 << 62 | 5, INFINITY | 5
BITS: Final = 600

needs_host = pytest.mark.skipif(host() is None, reason="the host has no x87")


def split(results: int) -> tuple[int, int, int, int]:
    """What is replaced, exceptions, conditions, what is pushed."""
    return results & (1 << 80) - 1, results >> 80 & 0xFF, results >> 88 & 0xFFFF, results >> 104


def exact(x: int) -> Any:
    """The number of a finite encoding."""
    value = mpmath.ldexp(x & SIGNIFICAND, (x >> 64 & EXPONENT or 1) - LSB)
    return -value if x >> 79 else value


EXACT: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "fsin": lambda x, y: mpmath.sin(x),
    "fcos": lambda x, y: mpmath.cos(x),
    "fsincos": lambda x, y: mpmath.sin(x),
    "fptan": lambda x, y: mpmath.sin(x) / mpmath.cos(x),
    "fpatan": lambda x, y: mpmath.arg(mpmath.mpc(x, y)),
    "f2xm1": lambda x, y: mpmath.expm1(x * mpmath.ln(2)),
    "fyl2x": lambda x, y: y * mpmath.ln(x) / mpmath.ln(2),
    "fyl2xp1": lambda x, y: y * mpmath.log1p(x) / mpmath.ln(2),
}


def error(result: int, value: Any) -> Any:
    """How far a finite encoding is from `value`, in units of its last place."""
    unit = mpmath.ldexp(1, (result >> 64 & EXPONENT or 1) - LSB)
    return abs(exact(result) - value) / unit


def operands(rng: random.Random, name: str) -> tuple[int, int]:
    """Operands in the range of an instruction."""
    most = {"f2xm1": 0, "fyl2xp1": -2, "fyl2x": 16000, "fpatan": 150}.get(name, 63)
    sign = 0 if name == "fyl2x" else rng.getrandbits(1) << 79
    low = rng.choice((-5, -70, -16300 if name in ("f2xm1", "fyl2x", "fyl2xp1") else -150))
    x = sign | BIAS + rng.randrange(low, most) << 64 | 1 << 63 | x87_values.significand(rng)
    return x, rng.getrandbits(1) << 79 | BIAS + rng.randrange(-60, 60) << 64 | 1 << 63 | x87_values.significand(rng)


@pytest.mark.parametrize("name", OPCODES)
def test_portable_results_are_within_one_unit(name: str) -> None:
    rng = random.Random(name)
    for n in range(200):
        x, y = operands(rng, name)
        control = CONTROLS[n % 4]
        result, exceptions, conditions, pushed = split(compute(name, x, y, control))
        with mpmath.workprec(BITS if name != "f2xm1" and name != "fyl2xp1" else 17000):
            value = EXACT[name](exact(x), exact(y))
            assert error(result, value) < 1, f"{x:x} {y:x} {control:x}"
            if name == "fsincos":
                assert error(pushed, mpmath.cos(exact(x))) < 1, f"{x:x}"
            rounding = control >> 10
            if rounding and name != "fsincos":  # the rounding is the control word's
                above = exact(result) > value
                assert above == (rounding == 2 or (rounding == 3 and value < 0)) or exact(result) == value
                assert bool(exceptions & C1) == (abs(exact(result)) > abs(value))
        assert not conditions
        assert name in ("fsincos", "fptan") or not pushed
    assert name != "fptan" or pushed == ONE


@needs_host
@pytest.mark.parametrize("name", sorted(set(OPCODES) - {"fsin", "fcos", "fsincos", "fptan"}))
def test_the_hosts_results_are_near(name: str) -> None:
    """Makers promise one unit in the last place; of sines and tangents only where their pi is enough."""
    rng = random.Random(name)
    execute = host()
    assert execute is not None
    for n in range(300):
        x, y = operands(rng, name)
        mine = split(compute(name, x, y, CONTROLS[n % 4]))[0]
        theirs = execute(name, x, y, CONTROLS[n % 4])[0]
        assert abs(mine - theirs) <= 2 or (mine & theirs & SIGNIFICAND) in (0, 1 << 63), f"{x:x} {y:x}"


# Operands, control word, result, exceptions: the tables of Intel SDM vol. 2A, which every processor has alike.
MINUS: Final = SIGN
SPECIAL: Final = [
    ("fsin", 0, 0, 0, 0),
    ("fsin", MINUS, 0, MINUS, 0),
    ("fsin", INFINITY, 0, INDEFINITE, IE),
    ("fsin", QUIET, 0, QUIET, 0),
    ("fsin", SIGNALING, 0, QUIET, IE),
    ("fcos", 0, 0, ONE, 0),
    ("fcos", MINUS | INFINITY, 0, INDEFINITE, IE),
    ("f2xm1", 0, 0, 0, 0),
    ("f2xm1", MINUS, 0, MINUS, 0),
    ("f2xm1", INFINITY, 0, INFINITY, 0),
    ("fpatan", ONE, 0, 0, 0),
    ("fpatan", ONE, MINUS, MINUS, 0),
    ("fpatan", MINUS | ONE, 0, PI, PE),
    ("fpatan", 0, ONE, PI - (1 << 64), PE),
    ("fpatan", INFINITY, INFINITY, PI - (2 << 64), PE),
    ("fpatan", INFINITY, ONE, 0, 0),
    ("fpatan", QUIET, ONE, QUIET, 0),
    ("fyl2x", ONE, TWO, 0, 0),
    ("fyl2x", ONE, MINUS | TWO, MINUS, 0),
    ("fyl2x", 0, ONE, MINUS | INFINITY, ZE),
    ("fyl2x", MINUS, MINUS | ONE, INFINITY, ZE),
    ("fyl2x", 0, 0, INDEFINITE, IE),
    ("fyl2x", MINUS | ONE, ONE, INDEFINITE, IE),
    ("fyl2x", INFINITY, 0, INDEFINITE, IE),
    ("fyl2x", INFINITY, MINUS | ONE, MINUS | INFINITY, 0),
    ("fyl2x", ONE, INFINITY, INDEFINITE, IE),
    ("fyl2x", HALF, INFINITY, MINUS | INFINITY, 0),
    ("fyl2xp1", 0, ONE, 0, 0),
    ("fyl2xp1", MINUS, ONE, MINUS, 0),
    ("fyl2xp1", 0, INFINITY, INDEFINITE, IE),
    ("fyl2xp1", HALF, MINUS | INFINITY, MINUS | INFINITY, 0),
    ("fyl2xp1", QUIET, SIGNALING, QUIET, IE),
]


ROUNDED_UP: Final = (PI, PI - (1 << 64), PI - (2 << 64))


@pytest.mark.parametrize(("name", "st0", "st1", "result", "exceptions"), SPECIAL)
def test_special_operands(name: str, st0: int, st1: int, result: int, exceptions: int) -> None:
    assert split(compute(name, st0, st1, 0x37F))[:3] == (result, exceptions | C1 * (result in ROUNDED_UP), 0)
    if (execute := host()) is not None:
        bits, _, status = execute(name, st0, st1, 0x37F)
        assert (bits, status & 0x3F) == (result, exceptions)


@pytest.mark.parametrize("name", ["fsin", "fcos", "fsincos", "fptan"])
@pytest.mark.parametrize("portable", [0, 1])
def test_an_operand_out_of_range_stays(name: str, portable: int) -> None:
    for x in (BIAS + 63 << 64 | 1 << 63, SIGN | 0x7FFE << 64 | SIGNIFICAND):
        function = x87function.FUNCTIONS[name].function
        result, exceptions, conditions, _ = split(function(x, 0x37F, portable))
        assert (result, exceptions, conditions) == (x, 0, 0x400)


def test_results_that_are_exact_raise_nothing() -> None:
    assert split(compute("f2xm1", SIGN | ONE, 0, 0x37F))[:2] == (SIGN | HALF, 0)
    assert split(compute("fyl2x", TWO, TWO, 0x37F))[:2] == (TWO, 0)
    assert split(compute("fyl2xp1", ONE, TWO, 0x37F))[:2] == (TWO, 0)


@pytest.mark.parametrize("name", OPCODES)
def test_every_encoding_has_a_result(name: str) -> None:
    rng = random.Random(name)
    for _ in range(300):
        st0, st1 = x87_values.extended(rng), x87_values.extended(rng)
        assert 0 <= compute(name, st0, st1, rng.getrandbits(12) | 0x40) < 1 << 184


@needs_host
def test_the_hosts_state_is_what_it_was() -> None:
    """A control word with everything unmasked, and with another rounding, is not left behind."""
    execute = host()
    assert execute is not None
    for name in OPCODES:
        first = execute(name, HALF, HALF, 0x37F)
        for _ in range(10):  # a register left on the host's stack would overflow it
            execute(name, SIGNALING, 0, 0xC40)
            execute(name, 1, 1, 0x840)
        assert execute(name, HALF, HALF, 0x37F) == first


@needs_host
def test_unmasked_exceptions_are_told_and_nothing_is_done() -> None:
    execute = host()
    assert execute is not None
    bits, _, status = execute("fsin", SIGNALING, 0, 0x37E)
    assert (bits, status & 0x80FF) == (SIGNALING, 0x8081)


@needs_host
def test_no_page_can_be_written_and_executed() -> None:
    addresses = {ctypes.addressof(page) for page in hostcode._PAGES}
    assert addresses
    modes = {}
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, last, mode = re.match(r"(\w+)-(\w+) (\S+)", line).groups()
        modes.update({a: mode for a in addresses if int(first, 16) <= a < int(last, 16)})
    assert set(modes.values()) == {"r-xp"}


def test_a_host_without_it_has_the_portable_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(x87function, "host", lambda: None)
    for name in OPCODES:
        arguments = (HALF, HALF) if name in OF_TWO else (HALF,)
        assert x87function.FUNCTIONS[name].function(*arguments, 0x37F, 0) == compute(name, HALF, HALF, 0x37F)


def test_a_remainder_by_infinity_is_the_dividend_and_no_underflow() -> None:
    """As an Intel Xeon has it: a denormal stays as it is, also where underflow is not masked."""
    denormal, infinity, unmasked_underflow = 0x07D0_4899949FFF62, 0x7FFF << 64 | 1 << 63, 0x642
    assert fprem_packed.function(denormal, infinity, unmasked_underflow) == 2 << 80 | denormal
