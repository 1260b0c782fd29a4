"""The evaluator: what each operation that is not pure does to a machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from aiopyvm.engine.python import fpregisters
from aiopyvm.ir.builder import Builder
from aiopyvm.ir.evaluate import Leave, evaluate, read_fp, write_fp
from aiopyvm.ir.float import FLOAT
from aiopyvm.ir.helpers import Fault, Helper
from aiopyvm.ir.types import F32, F64, F80, I8, I16, I32, I64
from aiopyvm.isa.state import CpuState
from aiopyvm.mem.faults import MemoryFault
from aiopyvm.mem.space import AddressSpace

ONE = 0x3FFF8000000000000000


@dataclass
class Machine:
    cpu: CpuState
    memory: AddressSpace


@pytest.fixture
def core() -> Machine:
    space = AddressSpace()
    space.map(0x1000, 4096, 3)
    return Machine(CpuState(), space)


def test_registers_and_memory(core: Machine) -> None:
    b = Builder()
    core.cpu.ebx = 0x1FF8
    address = b.get("ebx")
    b.store(address, b.const(0x1122334455667788, I64))
    b.set("eax", b.load(address + 1, I16).sext(32))
    b.set("fip", b.load(address + 4, I32))
    b.set("zf", b.get("eax").ne(0))
    b.set("fs", b.const(0x23, I16))
    assert evaluate(b.ops, core) is None
    assert (core.cpu.eax, core.cpu.fip, core.cpu.zf, core.cpu.fs) == (0x6677, 0x11223344, 1, 0x23)
    assert core.memory.read(0x1FF8, 8) == bytes.fromhex("8877665544332211")


def test_memory_faults_pass_through_and_probe_does_nothing_else(core: Machine) -> None:
    b = Builder()
    b.probe(b.const(0x1FFC), 4, True)
    b.set("eax", 1)
    b.probe(b.const(0x1FFD), 4, True)
    b.set("eax", 2)
    with pytest.raises(MemoryFault) as caught:
        evaluate(b.ops, core)
    assert (caught.value.address, caught.value.access, core.cpu.eax) == (0x2000, "w", 1)
    assert core.memory.read(0x1FFC, 4) == bytes(4)


@pytest.mark.parametrize("outer", [0, 1])
@pytest.mark.parametrize("inner", [0, 1])
def test_guards_nest(core: Machine, outer: int, inner: int) -> None:
    core.cpu.cf, core.cpu.zf = outer, inner
    b = Builder()
    with b.when(b.get("cf")):
        b.set("eax", 1)
        with b.when(b.get("zf")):
            b.set("ebx", 1)
        b.set("ecx", 1)
    b.set("edx", 1)
    evaluate(b.ops, core)
    assert (core.cpu.eax, core.cpu.ebx, core.cpu.ecx, core.cpu.edx) == (outer, outer & inner, outer, 1)


def test_faults(core: Machine) -> None:
    b = Builder()
    b.fault(13, b.get("cf"), 0x18)
    b.set("eax", 1)
    evaluate(b.ops, core)
    core.cpu.cf, core.cpu.eax = 1, 0
    with pytest.raises(Fault) as caught:
        evaluate(b.ops, core)
    assert (caught.value.vector, caught.value.error_code, core.cpu.eax) == (13, 0x18, 0)


def test_a_jump_and_an_exit_end_the_instruction(core: Machine) -> None:
    b = Builder()
    with b.when(b.get("cf")):
        b.jump(b.get("eax") + 2)
    b.exit("trap", 3)
    core.cpu.eax = 0xFFFFFFFF
    assert evaluate(b.ops, core) == Leave("trap", 3)
    core.cpu.cf = 1
    assert evaluate(b.ops, core) == 1


def test_helpers(core: Machine) -> None:
    def machine(on: Any, x: int) -> int:
        on.cpu.ecx = x
        return -1

    b = Builder()
    b.set("eax", b.helper(Helper("plain", lambda x, y: x * y), I32, b.get("ebx"), b.const(3)))
    b.set("edx", b.helper(Helper("machine", machine, machine=True), I32, b.get("ebx")))
    core.cpu.ebx = 0x80000001
    evaluate(b.ops, core)
    assert (core.cpu.eax, core.cpu.ecx, core.cpu.edx) == (0x80000003, 0x80000001, 0xFFFFFFFF)


def test_x87_registers(core: Machine) -> None:
    b = Builder()
    b.setfp(b.const(3, I8), b.const(ONE, F80))
    b.setfp(b.const(4, I8), b.floating("fadd", F80, b.getfp(b.const(3, I8)), b.getfp(b.const(5, I8)), b.get("fcw")))
    evaluate(b.ops, core)
    assert (read_fp(core.cpu, 3), read_fp(core.cpu, 4)) == (ONE, ONE)


@pytest.mark.parametrize("index", range(8))
def test_generated_code_reads_and_writes_the_same_registers(core: Machine, index: int) -> None:
    for value in (ONE, (1 << 80) - 1, 0x8000_0123456789ABCDEF, 0):
        fpregisters.write_fp(core.cpu, index, value)
        assert read_fp(core.cpu, index) == value
        write_fp(core.cpu, index, value ^ 0xFFFF)
        assert fpregisters.read_fp(core.cpu, index) == value ^ 0xFFFF
    assert all(read_fp(core.cpu, other) == 0 for other in range(8) if other != index)
    assert core.cpu.fdp == 0


def test_exceptions_of_floating_point(core: Machine) -> None:
    b = Builder()
    three = b.floating("fromint", F80, b.const(3), b.get("fcw"))
    third = b.floating("fdiv", F80, b.const(ONE, F80), three, b.get("fcw"))
    single = b.floating("fconvert", F32, third, b.get("fcw"))
    wide = b.floating("fconvert", F64, single, b.get("fcw"))
    b.set("eax", b.fexc(third).zext(32))
    b.set("ecx", single.cast(I32))
    b.set("edx", b.fexc(wide).zext(32))
    evaluate(b.ops, core)
    expected, exceptions = FLOAT["fdiv"](F80, F80, ONE, 0x4000C000000000000000, 0x37F)
    assert core.cpu.eax == exceptions
    assert core.cpu.ecx == FLOAT["fconvert"](F32, F80, expected, 0x37F)[0]
    assert core.cpu.edx == 0
