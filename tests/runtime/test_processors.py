"""`cpu=`: what programs of a machine see of its processor, and what they may execute."""

from __future__ import annotations

import pytest

from aiopyvm import VM, Reason, Runtime, assemble
from aiopyvm.isa.processors import PROCESSORS
from tests.engine.engines import engine_of

pytestmark = pytest.mark.anyio
ENGINES = ("evaluator", "python", "native")
LOAD_AT = 0x10000
WRITE = "mov eax, 4; mov ebx, 1; mov ecx, esp; int 0x80; mov eax, 1; xor ebx, ebx; int 0x80"
# EAX, EBX, ECX and EDX of leaf 1 to standard output.
TELL = f"mov eax, 1; xor ecx, ecx; cpuid; push edx; push ecx; push ebx; push eax; mov edx, 16; {WRITE}"
# The whole of /proc/cpuinfo to standard output.
SHOW = """
    sub esp, 4096; push 0; push 0x6f666e69; push 0x7570632f; push 0x636f7270; mov word [esp-2], 0x2f00;
    lea ebx, [esp-1]; mov eax, 5; xor ecx, ecx; int 0x80;
    mov ebx, eax; lea ecx, [esp+16]; mov edx, 4096; mov eax, 3; int 0x80; mov edx, eax; lea esp, [esp+16];
"""
UNAME = f"sub esp, 390; mov ebx, esp; mov eax, 122; int 0x80; add esp, 260; mov edx, 4; {WRITE}"


def ready(engine: str) -> None:
    """Skip where there is no native engine; else its code is there."""
    if engine == "native":
        engine_of("native")


@pytest.mark.parametrize("engine", ENGINES)
async def test_an_instruction_that_it_lacks_is_sigill(engine: str) -> None:
    ready(engine)
    code = assemble("nop; nop; popcnt eax, ecx; mov eax, 1; xor ebx, ebx; int 0x80")
    old, new = VM(engine=engine, cpu="pentium4"), VM(engine=engine, cpu="x86-64-v2-32")
    result = await old.run_bytes(code, load_at=LOAD_AT)
    assert (result.reason, result.returncode) == (Reason.SIGNALED, -4)
    assert result.registers.eip == LOAD_AT + 2
    assert result.instructions == 2
    assert result.detail == "#UD at eip 0x00010002: popcnt needs popcnt, which pentium4 lacks"
    assert (await new.run_bytes(code, load_at=LOAD_AT)).returncode == 0


async def test_what_is_no_instruction_is_not_said_to_be_lacked() -> None:
    for code in (b"\x0f\x0b", b"\x0f\xff"):  # UD2; nothing
        result = await VM(cpu="pentium4").run_bytes(code, load_at=LOAD_AT)
        assert result.detail == "#UD at eip 0x00010000"


@pytest.mark.parametrize("name", PROCESSORS)
@pytest.mark.parametrize("engine", ENGINES)
async def test_cpuid_tells_of_it(engine: str, name: str) -> None:
    ready(engine)
    result = await VM(engine=engine, cpu=name).run_bytes(assemble(TELL))
    stdout = result.stdout or b""
    words = tuple(int.from_bytes(stdout[at : at + 4], "little") for at in range(0, 16, 4))
    assert words == PROCESSORS[name].cpuid(1, 0)


@pytest.mark.parametrize("name", PROCESSORS)
async def test_the_system_tells_of_it(name: str) -> None:
    vm, processor = VM(cpu=name), PROCESSORS[name]
    machine = await vm.run_bytes(assemble(UNAME))
    assert machine.stdout == processor.platform
    told = (await vm.run_bytes(assemble(SHOW + WRITE))).stdout.decode()
    lines = dict(line.split("\t: ", 1) for line in told.replace("\t\t:", "\t:").splitlines() if line)
    assert lines["flags"].split() == list(processor.features)
    assert (lines["cpu family"], lines["model"]) == (str(processor.family), str(processor.model))
    assert lines["model name"] == processor.brand.decode()


async def test_a_runtime_says_it_for_its_machines() -> None:
    async with Runtime(cpu="i486") as runtime:
        result = await runtime.vm().run_bytes(assemble("cmove eax, ecx"))
        assert result.returncode == -4
        assert (await runtime.vm(cpu="max").run_bytes(assemble("cmove eax, ecx"))).reason is Reason.END_OF_CODE
    with pytest.raises(ValueError, match="cpu must be one of"):
        Runtime(cpu="z80")
