"""Accesses that the host checks: what the handler of faults takes, and what it leaves to whom it belongs to."""

from __future__ import annotations

import faulthandler
import gc
import os
import random
import re
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from aiopyvm import VM
from aiopyvm.engine.native import traps
from aiopyvm.engine.native.codearena import code_arena
from aiopyvm.engine.native.guards import VARIABLE, form, guards
from aiopyvm.engine.native.layout import CHECKED, MMU
from aiopyvm.engine.native.loading import native_engine
from aiopyvm.engine.native.objectfile import BadObjectError, Image, check_traps
from aiopyvm.engine.native.traplayout import MOST_OPENED, TRAPS
from aiopyvm.engine.protocol import Core, Exit, ExitReason
from aiopyvm.engine.python import PythonEngine
from aiopyvm.errors import EngineUnavailableError
from aiopyvm.isa.assemble import assemble
from aiopyvm.mem import protection
from aiopyvm.mem.backing import ImageBacking, SharedBacking
from aiopyvm.mem.layout import GUARD, PAGE, PAGE_SHIFT, READ, WRITE
from aiopyvm.mem.reservation import HOST_MAPPINGS, HostMappings
from aiopyvm.mem.space import AddressSpace
from aiopyvm.runtime import machine as machines
from tests.engine.engines import hot_engine, native_handlers
from tests.engine.test_code import BASE, machine
from tests.native import glibc_path

ROOT = Path(__file__).parents[2]
DATA = 0x40000
# by fast bits: "-" nothing, "r" reading, "w" both
ALLOWED = bytes(b"w"[0] if bits & WRITE else b"r"[0] if bits & READ else b"-"[0] for bits in range(256))
KINDS = {"--": b"-", "r-": b"r", "rw": b"w"}
FILL = "again: mov [edi], eax; add edi, 4096; add eax, 1; dec ecx; jnz again; int 0x80"


def looping(text: str, pages: int = 3) -> Core:
    """A core about to run `text` at BASE, in pages that it may write and execute."""
    return machine(assemble(text, BASE), pages=pages)


def armed() -> Core:
    """A core whose space is armed, with data pages from DATA on."""
    core = looping("again: add eax, [edi]; dec ecx; jnz again; int 0x80")
    core.memory.map(DATA, 16 * PAGE, 3)
    core.memory.store(DATA, 4, 7)
    core.cpu.edi, core.cpu.ecx = DATA, 50
    assert hot_engine(2).run(core, 10_000) == Exit(ExitReason.SYSCALL)
    assert core.cpu.eax == 350
    assert core.memory.protection is not None
    return core


def host_protection(space: AddressSpace) -> Iterator[tuple[int, int, str]]:
    """The host's runs of one protection in the 4 GiB and the guards: first page, last (exclusive), "rw" and so on."""
    low, high = space.base - GUARD, space.base + (1 << 32) + GUARD
    with open("/proc/self/maps") as file:
        for line in file:
            found = re.match(r"(\w+)-(\w+) (..)", line)
            assert found is not None
            start, end = max(int(found[1], 16), low), min(int(found[2], 16), high)
            if start < end:
                yield (start - space.base) >> PAGE_SHIFT, (end - space.base) >> PAGE_SHIFT, found[3]


def as_the_table_says(space: AddressSpace) -> bool:
    """Whether the host allows of each page what the fast bits allow, once what is pending is done."""
    assert space.protection is not None
    assert space.protection.ready()
    for first, last, bits in list(host_protection(space)):
        if first < 0 or last > len(space.pages):
            first, last = max(first, 0), min(last, len(space.pages))
            if bits != "--":
                return False
        if bytes(space.pages[first:last]).translate(ALLOWED).strip(KINDS[bits]):
            return False
    return True


# -- the host's protection is the page table's ------------------------------------------------------------------------


def test_the_host_allows_what_the_page_table_allows() -> None:
    space, random_ = armed().memory, random.Random(3)
    image, shared = ImageBacking(os.urandom(9 * PAGE)), SharedBacking(5 * PAGE)
    children: list[AddressSpace] = []
    for _ in range(200):
        at, length = DATA + random_.randrange(24) * PAGE, random_.randrange(1, 6) * PAGE
        match random_.randrange(9):
            case 0:
                space.map(at, length, random_.choice((0, 1, 3, 7)))
            case 1:
                space.map(at, length, random_.choice((1, 3, 5)), image)
            case 2:
                space.map(at, 5 * PAGE, random_.choice((1, 3)), shared, shared=True)
            case 3:
                space.unmap(at, length)
            case 4 if space.is_mapped(at, length):
                space.protect(at, length, random_.choice((0, 1, 3, 5, 7)))
            case 5:
                space.discard(at, length)
            case 6 if space.is_mapped(at, length):
                space.track_code(at, 64) if random_.random() < 0.5 else space.untrack_code(at, 64)
            case 7 if len(children) < 3:
                children.append(space.fork(space.budget))
            case _:
                if space.is_mapped(at, length):
                    space.poke(at + 5, b"changed")
                    assert space.peek(at + 5, 7) == b"changed"
                    for page in range(at, at + length, PAGE):
                        mapping = space.find_mapping(page)
                        if mapping is not None and mapping.bits & WRITE:
                            space.store(page, 4, 1)
        assert as_the_table_says(space)
    for child in children:
        child.close()


def test_runs_of_pages_become_one_host_mapping_again() -> None:
    space = armed().memory
    space.map(0x100000, 128 * PAGE, 3)
    for first in (0, 1):
        for page in range(first, 128, 2):
            space.store(0x100000 + page * PAGE, 4, 1)
            assert as_the_table_says(space)
    assert sum(1 for first, last, _ in host_protection(space) if first < 0x180 and last > 0x100) == 1


def test_a_space_with_too_many_runs_is_disarmed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protection, "MOST_RUNS", 40)
    gc.collect()
    before = HOST_MAPPINGS.used
    core = looping(FILL.replace("4096", "8192"))
    core.memory.map(0x100000, 400 * PAGE, 3)
    core.cpu.edi, core.cpu.ecx = 0x100000, 100
    engine = hot_engine(2)
    assert engine.run(core, 10_000) == Exit(ExitReason.SYSCALL)
    assert (core.cpu.eax, core.cpu.instructions) == (100, 501)
    assert core.memory.load(0x100000 + 99 * 2 * PAGE, 4) == 99
    counts = engine.statistics()
    assert (counts["spaces_armed"], counts["spaces_disarmed"]) == (1, 1)
    assert {bits for _, _, bits in host_protection(core.memory)} == {"rw"}
    core.memory.close()
    assert HOST_MAPPINGS.used == before


def test_spaces_beyond_what_the_host_can_map_check_their_accesses(monkeypatch: pytest.MonkeyPatch) -> None:
    gc.collect()  # what is given back later is given back elsewhere
    monkeypatch.setattr(protection, "ARMED_MAPPINGS", HostMappings(3))
    core = looping(FILL)
    core.memory.map(DATA, 64 * PAGE, 3)
    core.cpu.edi, core.cpu.ecx = DATA, 64
    engine = hot_engine(2)
    assert engine.run(core, 10_000) == Exit(ExitReason.SYSCALL)
    assert core.cpu.instructions == 321
    counts = engine.statistics()
    assert (counts["spaces_armed"], counts["regions_compiled"] + counts["regions_cached"]) == (0, 1)
    assert protection.ARMED_MAPPINGS.used == 0
    assert {bits for _, _, bits in host_protection(core.memory)} == {"rw"}


def test_what_a_debugger_looks_at_is_protected_again() -> None:
    core = armed()
    space = core.memory
    space.protect(DATA, 16 * PAGE, 0)
    assert as_the_table_says(space)
    for count in (1, MOST_OPENED, 16):  # the last one many times: all is opened
        for number in range(count):
            space.view[DATA + number % 16 * PAGE] = number
        assert as_the_table_says(space)
    space.map(0x100000, 200 * PAGE, 3)
    space.view[0x100000 : 0x100000 + 200 * PAGE] = bytes(range(200)) * PAGE
    assert space.view[0x100000 + 200 * PAGE - 1] == 199
    assert as_the_table_says(space)


def test_what_is_shown_can_be_given_to_the_host() -> None:
    space = armed().memory
    space.map(0x100000, 4 * PAGE, 3)
    assert as_the_table_says(space)
    reader, writer = os.pipe()
    try:
        for address in (0x100000, 0x100000 + 2 * PAGE - 8):
            space.write(address, b"0123456789abcdef")
            assert os.write(writer, space.show(address, 16)) == 16
            assert os.read(reader, 99) == b"0123456789abcdef"
        assert os.write(writer, space.show(0x100000 + 3 * PAGE, 16)) == 16  # never touched before
    finally:
        os.close(reader)
        os.close(writer)


def test_an_armed_space_that_is_gone_takes_nothing_along() -> None:
    gc.collect()
    used = protection.ARMED_MAPPINGS.used
    core = armed()
    base = core.memory.base
    core.memory.close()
    assert protection.ARMED_MAPPINGS.used == used
    found = traps.traps_of(code_arena(), native_handlers().symbols)
    assert base not in {slot.base for slot in found.slots}
    other = armed()
    child = other.memory.fork(other.memory.budget)
    other.memory.close()  # the child still reads what is in there
    assert child.load(DATA, 4) == 7


@pytest.mark.parametrize("name", ["processes", "memory", "selfmod", "signals"])
def test_guests_that_change_their_memory(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forks, execve, unmapping, mprotect, stores to code, signal handlers for faults."""
    program = glibc_path(name)
    if program is None:
        pytest.skip("gcc -m32 builds no static programs here")

    def run(engine: str) -> tuple[object, ...]:
        result = anyio.run(VM(engine=engine).run_elf, program)
        return result.returncode, result.stdout, result.instructions

    expected = run("python")
    monkeypatch.setitem(machines._engines, "native", engine := hot_engine(30))
    assert run("native") == expected
    assert engine.statistics()["spaces_armed"]


# -- whose fault it is -------------------------------------------------------------------------------------------------


def test_addresses_that_wrap() -> None:
    """Behind 4 GiB comes address 0, whatever stands behind the reservation."""
    text = """
        again: mov eax, [edi + 16]; add ebx, eax; mov [esi - 8], ebx; add edx, [esi - 8]; dec ecx; jnz again; int 0x80
    """
    states = []
    for engine in (PythonEngine("evaluator"), hot_engine(5)):
        core = looping(text)
        core.memory.map(0, PAGE, 3)
        core.memory.store(4, 4, 12345)
        core.cpu.edi, core.cpu.esi, core.cpu.ecx = DATA, DATA + 64, 100
        core.memory.map(DATA, PAGE, 3)
        assert engine.run(core, 300).reason is ExitReason.BUDGET
        core.cpu.edi = 0xFFFFFFF4
        assert engine.run(core, 62).reason is ExitReason.BUDGET
        core.cpu.esi = 2
        exit_ = engine.run(core, 100)
        states.append((exit_, bytes(core.cpu), core.memory.peek(DATA, PAGE)))
        assert exit_.reason is ExitReason.FAULT
    assert states[0] == states[1]


@pytest.mark.parametrize("address", [0xFFFFFFFC, 0xFFFFFFFE, 0xFFFFDFFE, 0, 0xFFFF, DATA + PAGE - 2])
def test_faults_are_exact_at_the_edges(address: int) -> None:
    text = "again: add eax, 3; add [edi], eax; mov edx, [edi]; inc ebx; dec ecx; jnz again; int 0x80"
    states = []
    for engine in (PythonEngine("evaluator"), hot_engine(5)):
        core = looping(text)
        core.memory.map(DATA, PAGE, 3)
        core.cpu.edi, core.cpu.ecx = DATA, 100
        assert engine.run(core, 120).reason is ExitReason.BUDGET
        core.cpu.edi = address
        states.append((engine.run(core, 100), bytes(core.cpu), core.memory.peek(DATA, PAGE)))
        assert states[-1][0].reason is ExitReason.FAULT
    assert states[0] == states[1]


def test_two_threads_fault_at_once() -> None:
    engine = hot_engine(2)
    cores = []
    for _ in range(4):
        core = looping(FILL)
        core.memory.map(0x100000, 400 * PAGE, 3)
        core.cpu.edi, core.cpu.ecx = 0x100000, 10
        assert engine.run(core, 10_000) == Exit(ExitReason.SYSCALL)
        core.cpu.edi, core.cpu.ecx, core.cpu.eip = 0x100000, 380, BASE
        cores.append(core)
    start = threading.Barrier(4)

    def fly(core: Core) -> None:
        start.wait()
        while core.cpu.ecx:  # Python's part is under the GIL here, and under nothing else
            with python:
                place = engine.launch(core, 10_000)
            if place:
                engine.enter(place)
                with python:
                    engine.land(core)
            else:
                with python:
                    engine.run(core, 10_000)

    python = threading.Lock()
    threads = [threading.Thread(target=fly, args=(core,)) for core in cores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for core in cores:
        assert core.cpu.instructions == 51 + 380 * 5 + (core.cpu.eip != BASE + len(assemble(FILL, BASE)) - 2)
        assert core.memory.load(0x100000 + 379 * PAGE, 4) == 389
    assert engine.statistics()["spaces_disarmed"] == 0


def test_faults_to_no_purpose_end() -> None:
    """A guest that stores to its own code, from a region, again and again."""
    text = """
        mov ecx, 1000
    again:
        mov edx, 30
    inner:
        dec edx
        jnz inner
        mov [here + 1], ecx
        add eax, ecx
        dec ecx
        jnz again
        int 0x80
    here:
        mov ebx, 0
    """
    core = looping(text)
    expected = looping(text)
    engine = hot_engine(2)
    assert engine.run(core, 5).reason is ExitReason.BUDGET
    here = BASE + assemble(text, BASE).index(b"\xbb\0\0\0\0")
    for one in (core, expected):
        one.memory.track_code(here & -PAGE, PAGE)
    while engine.run(core, 100_000).reason is ExitReason.BUDGET:
        pass
    PythonEngine("evaluator").run(expected, 100_000)
    assert (core.cpu.eax, core.cpu.instructions) == (expected.cpu.eax, expected.cpu.instructions)
    counts = engine.statistics()
    assert counts["spaces_armed"] == counts["spaces_disarmed"] == 1


def test_a_handler_that_is_installed_later_does_not_get_our_faults(capfd: pytest.CaptureFixture[str]) -> None:
    core = looping(FILL)
    core.memory.map(0x100000, 400 * PAGE, 3)
    engine = hot_engine(2)
    was = faulthandler.is_enabled()
    try:
        for number in range(40):
            core.cpu.edi, core.cpu.ecx, core.cpu.eip = 0x100000 + 10 * number * PAGE, 10, BASE
            assert engine.run(core, 10_000) == Exit(ExitReason.SYSCALL)
            (faulthandler.disable if number % 2 else faulthandler.enable)()
    finally:
        (faulthandler.enable if was else faulthandler.disable)()
    assert engine.statistics()["spaces_disarmed"] == 0
    assert "Fatal" not in capfd.readouterr().err


CRASH = """
    import ctypes, faulthandler, os, signal, sys
    {before}
    from tests.engine.test_native_traps import armed
    core = armed()
    {after}
    from aiopyvm.engine.python import PythonEngine
    core.cpu.eip, core.cpu.ecx = {base}, 50
    from tests.engine.engines import hot_engine
    hot_engine(2).run(core, 1000)
    print("so far", flush=True)
    {crash}
    print("alive", flush=True)
"""
WILD = "ctypes.string_at(16)"


@pytest.mark.parametrize(
    ("before", "after", "crash", "trace"),
    [
        ("", "", WILD, False),
        ("faulthandler.enable()", "", WILD, True),
        ("", "faulthandler.enable()", WILD, True),
        ("faulthandler.enable()", "faulthandler.disable()", WILD, False),
        ("", "faulthandler.enable(); faulthandler.disable()", WILD, False),
        ("", "", "os.kill(os.getpid(), signal.SIGSEGV)", False),
        ("faulthandler.enable()", "", "os.kill(os.getpid(), signal.SIGSEGV)", True),
        ("", "", "ctypes.string_at(core.memory.base - 100)", False),  # a guard
        ("", "", "ctypes.CFUNCTYPE(None)(core.memory.base + 0x40000)()", False),  # guest memory is not executed
    ],
)
def test_a_genuine_crash_is_one(before: str, after: str, crash: str, trace: bool) -> None:
    program = textwrap.dedent(CRASH).format(before=before, after=after, crash=crash, base=BASE)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, cwd=ROOT, timeout=60, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (-signal.SIGSEGV, "so far\n"), done.stderr
    assert done.stderr.count("Fatal Python error: Segmentation fault") == trace
    assert trace or not done.stderr


def test_a_handler_of_somebody_elses_still_gets_what_is_his() -> None:
    program = textwrap.dedent("""
        import os, signal
        caught = []
        signal.signal(signal.SIGSEGV, lambda *_: caught.append(1))
        from tests.engine.test_native_traps import armed
        armed()
        os.kill(os.getpid(), signal.SIGSEGV)
        assert caught == [1]
        signal.signal(signal.SIGSEGV, signal.SIG_IGN)
        armed()
        os.kill(os.getpid(), signal.SIGSEGV)
        print("alive")
    """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, cwd=ROOT, timeout=60, check=False,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
    assert (done.returncode, done.stdout) == (0, b"alive\n"), done.stderr


def test_a_child_of_fork_goes_on() -> None:
    core = armed()
    core.memory.map(0x100000, 40 * PAGE, 3)
    pid = os.fork()
    if not pid:
        status = 1
        try:
            core.memory.view[DATA + 3 * PAGE] = 1
            core.cpu.eip, core.cpu.ecx = BASE, 50
            engine = hot_engine(2)
            status = int(engine.run(core, 10_000) != Exit(ExitReason.SYSCALL) or core.cpu.eax != 700)
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert as_the_table_says(core.memory)


# -- objects and choices -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "entries",
    [(8 - 16, 8 - 20, 4 - 24, 8 - 28), (8 - 16, 100 - 20), (100 - 16, 8 - 20), (8 - 16, -1 - 20), (8 - 16,)],
)
def test_tables_of_traps_that_are_none(entries: tuple[int, ...]) -> None:
    code = bytes(16) + b"".join(value.to_bytes(4, "little", signed=True) for value in entries)
    image = Image(0x2000, code, {}, {TRAPS: (0x2010, 4 * len(entries))})
    with pytest.raises(BadObjectError):
        check_traps(image)


def test_the_form_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    native_handlers()
    for chosen in (CHECKED, MMU):
        monkeypatch.setenv(VARIABLE, chosen)
        assert form() == chosen
    monkeypatch.setenv(VARIABLE, "fast")
    with pytest.raises(ValueError, match="fast"):
        native_engine()
    monkeypatch.setenv(VARIABLE, MMU)
    monkeypatch.setattr(traps, "_SANITIZERS", ("PyLong_FromLong",))
    with pytest.raises(EngineUnavailableError, match="sanitizer"):
        native_engine()
    monkeypatch.delenv(VARIABLE)
    assert form() == CHECKED
    assert guards(CHECKED, {}) is None
