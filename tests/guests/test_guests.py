"""Every guest natively first, then on every engine, on asyncio and trio: same bytes, same status."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from aiopyvm import VM, Result
from aiopyvm.engine.native.aot import ahead_of_time
from aiopyvm.engine.native.codearena import unsupported
from aiopyvm.isa.processors import PROCESSORS
from tests.guests.programs import COMMITTED, GLIBC, Program
from tests.hardware import vectors
from tests.native import NativeRun, run_native

ENGINES = ("evaluator", "python", "native")
RUNS = [
    (engine, program) for engine in ENGINES for program in COMMITTED if not (program.slow and engine == "evaluator")
]
FLAT = [program for program in COMMITTED if program.flat]

# glibc is built for an i686; `segments` executes CLFLUSH.
ON_PROCESSORS = [
    (program, cpu)
    for program in GLIBC
    for cpu in PROCESSORS
    if cpu != "i486" and (program.name, cpu) != ("segments", "pentium3")
]
OLDEST = [program for program in COMMITTED if program.name != "calculator" and not program.slow]  # that one has CMOV

Guest = Callable[[str], Path]


@pytest.fixture(autouse=True, scope="module")
def generated_code() -> None:
    """The native engine has its code before the first test: else Python would execute meanwhile."""
    if unsupported() is None:
        ahead_of_time().wait(300)


@functools.cache
def natively(path: Path, program: Program) -> subprocess.CompletedProcess[bytes]:
    """What the host answers; asked once for all engines and loops."""
    return run_native(path, *program.args, stdin=program.stdin, argv0=program.name)


def skip_of_maker(program: Program) -> None:
    if program.of_maker and not vectors.same_maker():
        pytest.skip(vectors.OTHER_MAKER)


def assert_same(result: Result, expected: subprocess.CompletedProcess[bytes]) -> None:
    told = f"{result.reason.name} {result.returncode} {result.detail}"
    assert result.stdout == expected.stdout, told
    assert result.stderr == expected.stderr, told
    assert result.returncode == expected.returncode, told
    assert result.unknown_syscalls == {}


@pytest.mark.native
@pytest.mark.both_loops
@pytest.mark.parametrize(("engine", "program"), RUNS, ids=[f"{engine}-{program}" for engine, program in RUNS])
async def test_committed_guest(engine: str, program: Program, guest: Guest, native: NativeRun) -> None:
    expected = natively(guest(program.name), program)
    vm = VM(engine=engine)
    result = await vm.run_elf(guest(program.name), *program.args, stdin=program.stdin, argv0=program.name)
    assert_same(result, expected)


@pytest.mark.native
@pytest.mark.anyio
@pytest.mark.parametrize("program", OLDEST, ids=str)
async def test_committed_guest_on_the_oldest_processor(program: Program, guest: Guest, native: NativeRun) -> None:
    expected = natively(guest(program.name), program)
    vm = VM(engine="native", cpu="i486")
    result = await vm.run_elf(guest(program.name), *program.args, stdin=program.stdin, argv0=program.name)
    assert_same(result, expected)


@pytest.mark.native
@pytest.mark.both_loops
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("load_at", [0, 0x10000, 0x7FFF0123])
@pytest.mark.parametrize("program", FLAT, ids=str)
async def test_flat_guest(engine: str, load_at: int, program: Program, guest: Guest, native: NativeRun) -> None:
    expected = natively(guest(program.name), program)
    result = await VM(engine=engine).run_flat(guest(program.flat), load_at=load_at, stdin=program.stdin)
    assert_same(result, expected)


@pytest.mark.native
@pytest.mark.anyio
@pytest.mark.parametrize(("program", "cpu"), ON_PROCESSORS, ids=str)
async def test_glibc_guest_on_every_processor(
    program: Program, cpu: str, glibc_guest: Guest, native: NativeRun
) -> None:
    """glibc chooses its string functions by CPUID."""
    skip_of_maker(program)
    path = glibc_guest(program.name)
    vm = VM(root={"bin": {program.name: path.read_bytes()}, "tmp": {}}, cpu=cpu)
    result = await vm.run(f"/bin/{program.name}", *program.args, stdin=program.stdin)
    assert_same(result, native(path, *program.args, stdin=program.stdin))


@pytest.mark.native
@pytest.mark.both_loops
@pytest.mark.parametrize("program", GLIBC, ids=str)
async def test_glibc_guest(program: Program, glibc_guest: Guest, native: NativeRun) -> None:
    skip_of_maker(program)
    path = glibc_guest(program.name)
    expected = native(path, *program.args, stdin=program.stdin)
    vm = VM(root={"bin": {program.name: path.read_bytes()}, "tmp": {}})
    result = await vm.run(f"/bin/{program.name}", *program.args, stdin=program.stdin)
    assert_same(result, expected)


@pytest.mark.native
@pytest.mark.anyio
async def test_glibc_hello_on_every_engine(glibc_guest: Guest) -> None:
    results = [await VM(engine=engine).run_elf(glibc_guest("hello")) for engine in ENGINES]
    assert [result.stdout for result in results] == [b"Hello, world!\n"] * len(ENGINES)
    assert len({result.instructions for result in results}) == 1


@pytest.mark.both_loops
async def test_instruction_counts_agree_between_engines(guest: Guest) -> None:
    for name in ("hello", "structs", "primes_raw", "upper_raw"):
        counts = {(await VM(engine=engine).run_elf(guest(name), stdin=b"abc")).instructions for engine in ENGINES}
        assert len(counts) == 1, name


@pytest.mark.both_loops
async def test_uname_is_a_32_bit_linux(guest: Guest) -> None:
    assert (await VM().run_elf(guest("uname"))).stdout == b"Linux i686\n"


@pytest.mark.both_loops
async def test_hello_without_any_native_help(guest: Guest) -> None:
    result = await VM().run_elf(guest("hello"))
    assert (result.stdout, result.stderr, result.returncode) == (b"Hello, world!\n", b"", 0)
