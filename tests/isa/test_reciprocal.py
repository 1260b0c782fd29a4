"""The portable definitions of RCPPS and RSQRTPS: the manual's bound and special values; every engine asks for them."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from math import sqrt

import pytest

from aiopyvm.engine.protocol import Core
from aiopyvm.isa.reciprocal import host, rcpps, reciprocal, reciprocal_root, rsqrtps
from aiopyvm.isa.state import CpuState
from aiopyvm.mem.space import AddressSpace
from tests.engine.engines import engine_of

_BOUND = 1.5 * 2.0**-12
_CODE, _PASSES = 0x10000, 200
# again: addps xmm2, xmm3; rcpps xmm0, xmm2; rsqrtss xmm1, xmm2; dec ecx; jne again
_LOOP = bytes.fromhex("0f58d3 0f53c2 f30f52ca 49 75f3")
_INFINITY, _MINUS = 0x7F800000, 1 << 31


def _number(word: int) -> float:
    return float(struct.unpack("<f", struct.pack("<I", word))[0])


@pytest.mark.parametrize(
    ("function", "exact"), [(reciprocal, lambda x: 1 / x), (reciprocal_root, lambda x: 1 / sqrt(x))]
)
def test_the_error_is_within_the_manual_s_bound(
    function: Callable[[int], int], exact: Callable[[float], float]
) -> None:
    rng = random.Random(1)
    for exponent in range(1, 253):
        for fraction in (0, 1, 0x7FFFFF, rng.getrandbits(23), rng.getrandbits(23)):
            x = exponent << 23 | fraction
            wanted, found = exact(_number(x)), _number(function(x))
            assert abs(found / wanted - 1) <= _BOUND, hex(x)


def test_special_values() -> None:
    assert [reciprocal(x) for x in (0, _MINUS, 1, _MINUS | 0x7FFFFF)] == [
        _INFINITY, _MINUS | _INFINITY, _INFINITY, _MINUS | _INFINITY,
    ]  # fmt: skip
    assert [reciprocal(x) for x in (_INFINITY, _MINUS | _INFINITY)] == [0, _MINUS]
    assert reciprocal(0x7F7FFFFF) == 0  # the result would be denormal
    assert reciprocal(0xFF800001) == 0xFFC00001
    assert [reciprocal_root(x) for x in (0, _MINUS, _MINUS | 1, _INFINITY)] == [
        _INFINITY, _MINUS | _INFINITY, _MINUS | _INFINITY, 0,
    ]  # fmt: skip
    assert [reciprocal_root(x) for x in (0xBF800000, _MINUS | _INFINITY)] == [0xFFC00000, 0xFFC00000]
    assert [reciprocal_root(x) for x in (0x7F800001, 0x40800000)] == [0x7FC00001, 0x3F000000]


@pytest.mark.parametrize("function", [rcpps.function, rsqrtps.function])
def test_special_values_are_those_of_the_host_s_instruction(function: Callable[[int, int], int]) -> None:
    if host() is None:
        pytest.skip("the host has no such instruction")
    words = (0, 1, _INFINITY, 0x7F800001, 0x7FC12345, 0x7FFFFF)
    for word in (*words, *(_MINUS | word for word in words), 0xBF800000):
        if function is rsqrtps.function or word != 0xBF800000:
            assert function(word, 0) == function(word, 1), hex(word)


@pytest.mark.parametrize("engine", ["warm", "native", "hot"])
def test_every_engine_has_the_portable_definition_where_it_is_wanted(engine: str) -> None:
    memory = AddressSpace()
    memory.map(_CODE, 4096, 7)
    memory.poke(_CODE, _LOOP)
    cpu = CpuState()
    cpu.eip, cpu.ecx, cpu.portable_math = _CODE, _PASSES, 1
    cpu.ymm[2][:16], cpu.ymm[3][:16] = struct.pack("<4f", 3.1, 0.7, 5.3, 9.9), struct.pack("<4f", *(0.013,) * 4)
    engine_of(engine).run(Core(cpu, memory), 5 * _PASSES)
    assert not cpu.ecx
    operand = int.from_bytes(bytes(cpu.ymm[2])[:16], "little")
    assert host() is None or rcpps.function(operand, 0) != rcpps.function(operand, 1)
    assert int.from_bytes(bytes(cpu.ymm[0])[:16], "little") == rcpps.function(operand, 1)
    assert int.from_bytes(bytes(cpu.ymm[1])[:4], "little") == rsqrtps.function(operand, 1) & 0xFFFFFFFF
