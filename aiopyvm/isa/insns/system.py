"""What a program may ask of the processor: NOP and hints, CPUID, RDTSC, RDRAND, caches, fences, SGDT and its like.

Which processor it is, `isa/processors.py` says. SGDT and its like give what Linux gives where the processor forbids
them to programs (UMIP): constants.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aiopyvm.ir.helpers import helper
from aiopyvm.ir.types import I32, I64, I128
from aiopyvm.isa.places import Destination, MemoryPlace, RegisterPlace, Source
from aiopyvm.isa.spec import form, forms, insn
from aiopyvm.isa.state import AF, CF, OF, OSZAPC, PF, SF, ZF

if TYPE_CHECKING:
    from aiopyvm.isa.trace import Tracer

# What Linux puts in place of the tables' addresses and of CR0 (arch/x86/kernel/umip.c).
_GDT_BASE: Final = 0xFFFE0000
_IDT_BASE: Final = 0xFFFF0000
_CR0: Final = 0x80050033
_TASK_REGISTER: Final = 0x40


@helper(machine=True)
def cpuid_registers(core: Any, leaf: int, subleaf: int) -> int:
    """EAX, EBX, ECX, EDX of a CPUID leaf of the core's processor as one i128, lowest first."""
    return sum(value << 32 * n for n, value in enumerate(core.processor.cpuid(leaf, subleaf)))


@helper(machine=True)
def random_number(core: Any) -> int:
    """32 random bits, which come from the runtime."""
    return int.from_bytes(core.random(4), "little")


@helper(machine=True)
def time_stamp(core: Any) -> int:
    """The time-stamp counter (i64), which comes from the runtime."""
    return int(core.rdtsc())


@insn("cpuid", source="Intel SDM vol. 2A, CPUID")
@form("0F A2")
def cpuid(b: Tracer) -> None:
    """EAX EBX ECX EDX := what leaf EAX, subleaf ECX, tells of the processor."""
    answer = b.helper(cpuid_registers, I128, b.get("eax"), b.get("ecx"))
    for n, name in enumerate(("eax", "ebx", "ecx", "edx")):
        b.set(name, (answer >> 32 * n).trunc(32) if n else answer.trunc(32))


@insn("rdtsc", source="Intel SDM vol. 2B, RDTSC", cpuid="tsc")
@form("0F 31")
def rdtsc(b: Tracer) -> None:
    """EDX:EAX := the time-stamp counter."""
    counter = b.helper(time_stamp, I64)
    b.set("eax", counter.trunc(32))
    b.set("edx", (counter >> 32).trunc(32))


@insn("rdtscp", source="Intel SDM vol. 2B, RDTSCP", cpuid="rdtscp")
@form("0F 01 F9")
def rdtscp(b: Tracer) -> None:
    """EDX:EAX := the time-stamp counter, ECX := the number of the processor: there is one."""
    rdtsc(b)
    b.set("ecx", 0)


@insn("rdpid", source="Intel SDM vol. 2B, RDPID", cpuid="rdpid")
@form("o* F3 0F C7 /7", "r32")
def rdpid(b: Tracer, dst: RegisterPlace) -> None:
    """dst := the number of the processor: there is one."""
    dst.store(0)


def _store_random(b: Tracer, dst: RegisterPlace) -> None:
    dst.store(b.helper(random_number, I32).trunc(dst.width))
    for flag in (OF, SF, ZF, AF, PF):
        b.set_flag(flag, 0)
    b.set_flag(CF, 1)


@insn("rdrand", source="Intel SDM vol. 2B, RDRAND", writes=OSZAPC, cpuid="rdrand")
@form("NFx 0F C7 /6", "r16")
@form("NFx 0F C7 /6", "r32")
def rdrand(b: Tracer, dst: RegisterPlace) -> None:
    """dst := a random number; CF tells that there was one."""
    _store_random(b, dst)


@insn("rdseed", source="Intel SDM vol. 2B, RDSEED", writes=OSZAPC, cpuid="rdseed")
@form("NFx 0F C7 /7", "r16")
@form("NFx 0F C7 /7", "r32")
def rdseed(b: Tracer, dst: RegisterPlace) -> None:
    """dst := a random number; CF tells that there was one."""
    _store_random(b, dst)


@insn("clflush", source="Intel SDM vol. 2A, CLFLUSH", cpuid="clflush")
@form("NP 0F AE /7", "m8")
def clflush(b: Tracer, line: MemoryPlace) -> None:
    """Nothing but the checks of a read: there is no cache."""
    line.prepare_load()


@insn("clflushopt", source="Intel SDM vol. 2A, CLFLUSHOPT", cpuid="clflushopt")
@form("66 0F AE /7", "m8")
def clflushopt(b: Tracer, line: MemoryPlace) -> None:
    """Nothing but the checks of a read."""
    line.prepare_load()


@insn("clwb", source="Intel SDM vol. 2A, CLWB", cpuid="clwb")
@form("66 0F AE /6", "m8")
def clwb(b: Tracer, line: MemoryPlace) -> None:
    """Nothing but the checks of a read."""
    line.prepare_load()


def _fence(b: Tracer) -> None:
    """Nothing: loads and stores are seen in their order."""


for _name, _digit, _feature in (("lfence", 5, "sse2"), ("mfence", 6, "sse2"), ("sfence", 7, "sse")):
    _codes = range(0xC0 + 8 * _digit, 0xC8 + 8 * _digit)
    for _code in _codes:
        _attributes = "" if _code == _codes[0] else "alias"
        insn(_name, source="Intel SDM vol. 2, LFENCE MFENCE SFENCE", cpuid=_feature)(
            form(f"NP 0F AE {_code:02X}", attributes=_attributes)(_fence)
        )


@insn("nop", source="Intel SDM vol. 2B, NOP")
@form("90")
def nop(b: Tracer) -> None:
    """Nothing."""


@insn("pause", source="Intel SDM vol. 2B, PAUSE")
@form("F3 90")
def pause(b: Tracer) -> None:
    """Nothing: a hint."""


def _hint_forms() -> list[tuple[str, str]]:
    """0F 18..1F: hints and NOPs with operands that are decoded and not accessed (Intel SDM vol. 2, opcode map)."""
    rows = [(f"0F 18 /{digit}", size) for digit in range(4) for size in ("r16", "r32")]
    rows += [(f"0F 18 /{digit}", size) for digit in range(4, 8) for size in ("r/m16", "r/m32")]
    rows += [(f"0F {byte:02X} /r", size) for byte in range(0x19, 0x20) if byte != 0x1F for size in ("r/m16", "r/m32")]
    rows += [(f"0F 1F /{digit}", size) for digit in range(1, 8) for size in ("r/m16", "r/m32")]
    return rows


@insn("nop", source="Intel SDM vol. 2B, NOP", cpuid="nopl")
@form("0F 1F /0", "r/m16")
@form("0F 1F /0", "r/m32")
@forms(*_hint_forms(), attributes="alias")
def nop_rm(b: Tracer, hint: Source) -> None:
    """Nothing; the operand is not accessed."""


def _prefetch(b: Tracer, hint: MemoryPlace) -> None:
    """Nothing: a hint, whose operand is not accessed."""


for _digit, _name in enumerate(("prefetchnta", "prefetcht0", "prefetcht1", "prefetcht2")):
    insn(_name, source="Intel SDM vol. 2B, PREFETCHh", cpuid="sse")(form(f"0F 18 /{_digit}", "m8")(_prefetch))


@insn("prefetchw", source="Intel SDM vol. 2B, PREFETCHW", cpuid="3dnowprefetch")
@form("0F 0D /1", "m8")
@forms(*((f"0F 0D /{digit}", "m8") for digit in range(8) if digit != 1), attributes="alias")
def prefetchw(b: Tracer, hint: MemoryPlace) -> None:
    """Nothing: a hint, whose operand is not accessed."""


@insn("nop", source="Intel SDM vol. 2B, PREFETCHW", cpuid="3dnowprefetch")
@forms(*((f"0F 0D /{digit}", size) for digit in range(8) for size in ("r16", "r32")), attributes="alias")
def nop_register_hint(b: Tracer, hint: Source) -> None:
    """Nothing: PREFETCHW with a register."""


@insn("endbr32", source="Intel SDM vol. 2A, ENDBR32", cpuid="nopl")
@form("F3 0F 1E FB")
def endbr32(b: Tracer) -> None:
    """Nothing: CPUID does not tell of control-flow enforcement."""


@insn("endbr64", source="Intel SDM vol. 2A, ENDBR64", cpuid="nopl")
@form("F3 0F 1E FA")
def endbr64(b: Tracer) -> None:
    """Nothing."""


# -- the system's tables ---------------------------------------------------------------------------------------------


def _store_table(dst: MemoryPlace, base: int) -> None:
    """A limit of 0 and a base, in six bytes."""
    dst.prepare_store(2)
    dst.prepare_store(4, at=2)
    dst.store(dst.b.const(0).trunc(16))
    dst.store(dst.b.const(base), at=2)


@insn("sgdt", source="Intel SDM vol. 2B, SGDT")
@form("o* 0F 01 /0", "m")
def sgdt(b: Tracer, dst: MemoryPlace) -> None:
    """dst := limit and address of the global descriptor table."""
    _store_table(dst, _GDT_BASE)


@insn("sidt", source="Intel SDM vol. 2B, SIDT")
@form("o* 0F 01 /1", "m")
def sidt(b: Tracer, dst: MemoryPlace) -> None:
    """dst := limit and address of the interrupt descriptor table."""
    _store_table(dst, _IDT_BASE)


def _store_word(b: Tracer, dst: Destination, value: int) -> None:
    dst.store(b.const(value).trunc(dst.width))


@insn("sldt", source="Intel SDM vol. 2B, SLDT")
@form("0F 00 /0", "r/m16")
@form("0F 00 /0", "r32/m16")
def sldt(b: Tracer, dst: Destination) -> None:
    """dst := selector of the local descriptor table: none."""
    _store_word(b, dst, 0)


@insn("str", source="Intel SDM vol. 2B, STR")
@form("0F 00 /1", "r/m16")
@form("0F 00 /1", "r32/m16")
def str_(b: Tracer, dst: Destination) -> None:
    """dst := selector of the task."""
    _store_word(b, dst, _TASK_REGISTER)


@insn("smsw", source="Intel SDM vol. 2B, SMSW")
@form("0F 01 /4", "r/m16")
@form("0F 01 /4", "r32/m16")
def smsw(b: Tracer, dst: Destination) -> None:
    """dst := CR0, as much as fits."""
    _store_word(b, dst, _CR0)
