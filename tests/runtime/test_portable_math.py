"""`portable_math`: one definition of sines on every engine; without it, the host's."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from aiopyvm import VM, Runtime, assemble
from aiopyvm.isa.x87host import host
from aiopyvm.isa.x87portable import compute
from tests.engine.engines import engine_of

PI = 0x4000C90FDAA22168C235
# sin(pi, rounded to 64 bits): write the ten bytes; after fork(2) both processes do, the child first.
SINE = "sub esp, 16; fldpi; fsin; fstp tbyte [esp]; mov eax, 4; mov ebx, 1; mov ecx, esp; mov edx, 10; int 0x80; "
PROGRAM = assemble(SINE + "mov eax, 1; xor ebx, ebx; int 0x80")
WAIT = "test eax, eax; jz child; mov ebx, -1; xor ecx, ecx; xor edx, edx; mov eax, 7; int 0x80; child: "
TWICE = assemble("mov eax, 2; int 0x80; " + WAIT + SINE + "mov eax, 1; xor ebx, ebx; int 0x80")
ENGINES = ("python", "native", "evaluator")


def sine(run: Callable[..., Any], code: bytes = PROGRAM) -> bytes:
    result = anyio.run(lambda: run(code, load_at=0x1000))
    return bytes(result.stdout)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_sine_is_the_exact_one(engine: str) -> None:
    if engine == "native":
        engine_of("native")  # skips where there is none
    written = sine(VM(engine=engine, portable_math=True).run_bytes)
    value = int.from_bytes(written, "little")
    assert value == compute("fsin", PI, 0, 0x37F) & (1 << 80) - 1
    significand = (value & (1 << 64) - 1) / 2**63 * (-1 if value >> 79 else 1)
    assert math.isclose(
        math.ldexp(significand, (value >> 64 & 0x7FFF) - 16383), -5.0165576126683320235e-20, rel_tol=1e-15
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_without_it_a_sine_is_the_hosts(engine: str) -> None:
    execute = host()
    if execute is None:
        pytest.skip("the host has no x87")
    if engine == "native":
        engine_of("native")
    written = sine(VM(engine=engine).run_bytes)
    assert int.from_bytes(written, "little") == execute("fsin", PI, 0, 0x37F)[0]


@pytest.mark.parametrize("engine", ("python", "native"))
def test_children_have_it_too(engine: str) -> None:
    if engine == "native":
        engine_of("native")
    runtime = Runtime(portable_math=True, engine=engine)
    written = sine(runtime.vm().run_bytes, TWICE)
    assert written[:10] == written[10:] == (compute("fsin", PI, 0, 0x37F) & (1 << 80) - 1).to_bytes(10, "little")


@pytest.mark.parametrize("kind", [VM, Runtime])
def test_it_is_a_bool(kind: Callable[..., object]) -> None:
    with pytest.raises(TypeError, match="portable_math is a bool"):
        kind(portable_math=1)


def test_the_command_line_has_it(tmp_path: Path) -> None:
    program = tmp_path / "sine.bin"
    program.write_bytes(PROGRAM)
    command = [sys.executable, "-m", "aiopyvm", "run", "--flat", "--portable-math", str(program)]
    done = subprocess.run(command, capture_output=True, check=True, timeout=60)
    assert done.stdout == (compute("fsin", PI, 0, 0x37F) & (1 << 80) - 1).to_bytes(10, "little")


def test_mpmath_is_imported_where_it_is_needed() -> None:
    code = "import sys, aiopyvm; from aiopyvm.isa.spec import table; table(); assert 'mpmath' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
