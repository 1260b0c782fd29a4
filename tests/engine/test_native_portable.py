"""What a host that is no x86 has: nothing of the x86 in what is generated, x87 instructions and REP done as every host
can, and where no code can be generated at all, Python and a line in the log that says why.

The portable forms are forced here; the text is compiled for AArch64, and run on this host.
"""

from __future__ import annotations

import logging
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from aiopyvm import VM
from aiopyvm.engine.native import (
    aot,
    bulk,
    codearena,
    guards,
    hostcpu,
    loading,
    lower_float,
    lower_simd,
    regionx87,
    relay_ir,
    runtime_ir,
)
from aiopyvm.engine.native.cache import object_cache
from aiopyvm.engine.native.commonshapes import SHAPES
from aiopyvm.engine.native.handlers import Shape
from aiopyvm.engine.native.layout import CHECKED, MMU
from aiopyvm.engine.native.llvmtext import Unlowerable, module
from aiopyvm.engine.native.regionplan import Request
from aiopyvm.engine.native.regiontext import object_text as region_text
from aiopyvm.engine.native.runtime_ir import runtime_text
from aiopyvm.isa.assemble import assemble
from aiopyvm.isa.decode import decode
from aiopyvm.mem.space import AddressSpace
from aiopyvm.runtime import machine
from tests.conftest import GuestPaths
from tests.engine.engines import native_handlers
from tests.engine.native_campaign import shapes_of
from tests.engine.native_steps import NativeSteps
from tests.hardware import cases, cases_x87
from tests.hardware.evaluator import EvaluatorEngine
from tests.hardware.machine import Machine, differences

_EM_AARCH64 = 183
_COMPILE = """
import sys
import llvmlite.binding as llvm
llvm.initialize_all_targets()
llvm.initialize_all_asmprinters()
module = llvm.parse_assembly(sys.stdin.read())
machine = llvm.Target.from_triple(sys.argv[1]).create_target_machine(opt=2, reloc="pic", codemodel="small")
sys.stdout.buffer.write(machine.emit_object(module))
"""
_REP = "rep movsd; rep stosb; "
_REGION = "again: add eax, [esi]; adc edx, 0; mov [edi], eax; call f; dec ecx; jnz again; hlt; f: shr eax, 3; ret"


@pytest.fixture
def portable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host without x87 and SSE, without string instructions, and without a handler of faults."""
    for place in (lower_float, bulk, relay_ir, runtime_ir, regionx87):
        monkeypatch.setattr(place, "HAS_X87", False)
    for place in (hostcpu, lower_simd):
        monkeypatch.setattr(place, "HAS_X86", False)


def handlers(codes: list[bytes]) -> str:
    """The text of handlers for the instructions of `codes`; those without native form are left out."""
    texts = {}
    for code in codes:
        shape = Shape(decode(code))
        try:
            texts[shape.name] = shape.text()
        except Unlowerable:
            pass
    return module([*runtime_text(), *texts.values()])


def is_of_x86(text: str) -> bool:
    """Tell whether a text has something that another processor has not."""
    return " asm " in text or "llvm.x86" in text or "x86_fp80" in text


def compiled(text: str, triple: str) -> bytes:
    """The object for a host of another kind."""
    command = [sys.executable, "-c", _COMPILE, triple]
    done = subprocess.run(command, input=text.encode(), capture_output=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return done.stdout


def test_handlers_are_of_any_host(portable: None) -> None:
    pytest.importorskip("llvmlite")
    codes = [bytes.fromhex(code) for code in SHAPES.split()][::6] + [assemble(_REP, 0)[:2], assemble(_REP, 0)[2:]]
    text = handlers(codes)
    assert text.count("\ndefine ") > 60
    assert not is_of_x86(text)
    data = compiled(text, "aarch64-unknown-linux-gnu")
    assert (data[:4], int.from_bytes(data[18:20], "little")) == (b"\x7fELF", _EM_AARCH64)


def test_regions_are_of_any_host() -> None:
    pytest.importorskip("llvmlite")
    text = region_text(Request(0x1000, ((0x1000, assemble(_REGION, 0x1000)),)).to_text())
    assert not is_of_x86(text)
    data = compiled(text, "aarch64-unknown-linux-gnu")
    assert int.from_bytes(data[18:20], "little") == _EM_AARCH64


def test_what_is_of_x86_is_seen() -> None:
    if not lower_float.HAS_X87:
        pytest.skip("this host is no x86")
    assert is_of_x86(handlers([b"\xd8\xc1"]))
    assert is_of_x86(handlers([b"\xf3\xa5"]))


def test_portable_handlers_do_the_same_here(portable: None) -> None:
    native_handlers()  # skips where generated code cannot run
    random_ = random.Random(11)
    listed = [case for _, case in random_.sample(list(cases.cases(random_, 1300)), 400)]
    x87 = [case for _, case in cases_x87.cases(random_, len(cases_x87.rows()))]
    engine, expected = NativeSteps(shapes_of(listed + x87)), Machine(EvaluatorEngine(), AddressSpace())
    portable_machine, counts = Machine(engine, AddressSpace()), []
    for some in listed, x87:
        for case in some:
            assert not differences(expected.run(case), portable_machine.run(case), x87_pointers=True), case
        counts.append(engine.native.total())
    assert counts[0] > 100
    assert counts[1] - counts[0] < len(x87) / 2  # loads, stores and the control word are left


# -- where no code can be generated ------------------------------------------------------------------------------------


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What is logged, by machines that choose their engine anew."""
    monkeypatch.setattr(machine, "_engines", {})
    monkeypatch.delenv("AIOPYVM_ENGINE", raising=False)
    caplog.set_level(logging.INFO, "aiopyvm")
    return caplog


async def hello_three_times(guest: GuestPaths) -> None:
    """Whatever the engine is."""
    for _ in range(3):
        assert (await VM().run_elf(guest("hello"))).stdout == b"Hello, world!\n"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("system", "processor", "why"),
    [
        ("linux", "aarch64", "generated code runs on Linux x86-64 only, this is aarch64"),
        ("darwin", "x86_64", "generated code runs on Linux x86-64 only, this is darwin"),
    ],
)
async def test_another_platform(
    system: str,
    processor: str,
    why: str,
    said: pytest.LogCaptureFixture,
    guest: GuestPaths,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = os.uname()
    with monkeypatch.context() as patch:
        patch.setattr(os, "uname", lambda: type(told)((*told[:4], processor)))
        patch.setattr(sys, "platform", system)
        reason, form = codearena.unsupported(), guards.form()
    assert reason == why
    assert form == (CHECKED if processor == "aarch64" else MMU)
    monkeypatch.setattr(loading, "unsupported", lambda: reason)
    await hello_three_times(guest)
    assert [record.getMessage() for record in said.records] == [f"guests run on the Python engine: {why}"]


def test_no_llvmlite_and_nothing_kept(guest: GuestPaths, tmp_path: Path) -> None:
    """In a process that finds no llvmlite."""
    script = f"""
import importlib.util, logging, sys
import anyio
sys.modules["llvmlite"] = None
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name == "llvmlite" else find(name, package)
from aiopyvm import VM
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
async def main():
    for _ in range(3):
        print((await VM().run_elf({str(guest("hello"))!r})).stdout.decode(), end="", flush=True)
anyio.run(main)
"""
    environment = {"AIOPYVM_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, env=environment, check=True, timeout=60)
    lines = done.stdout.decode().splitlines()
    assert lines.count("Hello, world!") == 3
    assert [line for line in lines if line != "Hello, world!"] == [
        "guests run on the Python engine: llvmlite is not installed"
    ], done.stderr


class NotExecutable(codearena.LinuxMemory):
    """A host that lets nobody execute what was written."""

    def make_executable(self, address: int, size: int) -> None:
        raise PermissionError(13, "Permission denied")


@pytest.mark.anyio
async def test_no_executable_memory(
    said: pytest.LogCaptureFixture, guest: GuestPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    native_handlers()  # skips where generated code cannot run
    arena = codearena.CodeArena(32 << 20, memory=NotExecutable())
    monkeypatch.setattr(aot, "_instances", [aot.AheadOfTime(arena, object_cache())])
    await hello_three_times(guest)
    assert [record.getMessage() for record in said.records] == [
        "guests run on the Python engine: the host allows no executable memory: Permission denied"
    ]
    arena.close()
