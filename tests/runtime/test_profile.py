"""`aiopyvm run --profile`, `--stats` and `--perf-map`: what they show is what the guest did, and changes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aiopyvm import VM
from aiopyvm.cli import main
from aiopyvm.cli.measure import record_handlers
from aiopyvm.engine.native import perfmap
from aiopyvm.engine.python import PythonEngine
from aiopyvm.runtime.lockstep import Lockstep
from aiopyvm.runtime.process import Process
from aiopyvm.runtime.profile import Profiler
from tests.conftest import GuestPaths
from tests.engine.engines import engine_of, hot_engine
from tests.runtime.test_lockstep import elf

SOURCE = """
#include <stdlib.h>
__attribute__((noinline)) static unsigned often(unsigned n) { unsigned s = 0; while (n--) s = s * 3 + n; return s; }
__attribute__((noinline)) static unsigned seldom(unsigned n) { unsigned s = 1; while (n--) s = s * 5 + n; return s; }
int main(void) { return (often(30000) + seldom(10000)) == 1; }
"""


class Watch:
    """Gets the Process and profiles it."""

    def started(self, process: Process) -> None:
        self.profiler = Profiler(process.runs[0])


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A static program with two functions, one of which executes three times as much as the other."""
    where = tmp_path_factory.mktemp("profile")
    (where / "p.c").write_text(SOURCE)
    command = ["gcc", "-m32", "-O1", "-static", "-o", str(where / "p"), str(where / "p.c")]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no static i386 glibc here: install gcc-multilib")
    return where / "p"


async def profiled(program: Path, **options: Any) -> Watch:
    watch = Watch()
    vm = VM(clock="virtual", seed=1, **options)
    result = await vm.run_elf(program, task_status=watch)
    plain = await VM(clock="virtual", seed=1, **options).run_elf(program)
    assert (result.returncode, result.instructions) == (plain.returncode, plain.instructions)
    assert sum(weight for _, weight in watch.profiler.functions()) == result.instructions
    return watch


@pytest.mark.both_loops
async def test_functions_have_their_share(program: Path) -> None:
    watch = await profiled(program)
    shares = {function: weight for (_, function), weight in watch.profiler.functions()}
    ratio = shares["often"] / shares["seldom"]
    assert 2.7 < ratio < 3.3, ratio
    assert watch.profiler.samples > 500
    (first, *_), _ = watch.profiler.functions()[0]
    assert first == str(program)


@pytest.mark.anyio
async def test_two_profiles_of_one_run_are_the_same(program: Path) -> None:
    one, other = await profiled(program), await profiled(program, quantum=777)
    assert one.profiler.speedscope("p") == other.profiler.speedscope("p")


@pytest.mark.anyio
async def test_the_file_is_speedscope_s(program: Path) -> None:
    found = (await profiled(program)).profiler.speedscope("p")
    assert found["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    (profile,) = found["profiles"]
    assert (profile["type"], profile["unit"], profile["name"]) == ("sampled", "none", "process 1")
    assert len(profile["samples"]) == len(profile["weights"])
    assert sum(profile["weights"]) == profile["endValue"] - profile["startValue"]
    frames = found["shared"]["frames"]
    assert {frames[stack[-1]]["name"] for stack in profile["samples"]} >= {"often", "seldom"}
    assert {frames[stack[0]]["name"] for stack in profile["samples"]} == {str(program)}


def test_the_command(guest: GuestPaths, tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    options = ["--profile", str(target), "--stats", "--engine", "python"]
    command = [sys.executable, "-m", "aiopyvm", "run", *options, str(guest("sieve")), "100"]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert said.stdout == "25 primes up to 100, the last is 97\n"
    assert json.loads(target.read_text())["exporter"] == "aiopyvm"
    figures = {line[:38].strip(): line[38:].strip() for line in said.stderr.splitlines() if line.startswith("  ")}
    assert int(figures["system calls"]) == 4
    assert figures["exits syscall"] == "4"
    assert int(figures["instructions"].replace(",", "")) > 1000
    assert "instructions in" in said.stderr
    assert "engine python:" in said.stderr


def test_the_profile_alone_as_a_table(guest: GuestPaths, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--profile", "-", "--engine", "python", str(guest("hello"))]) == 0
    first, *rest = capfd.readouterr().err.splitlines()
    assert first.startswith("179 instructions in ")
    assert sum(int(line.split()[1]) for line in rest) == 179
    assert all(line.endswith("/hello)") for line in rest)


def test_a_profile_that_cannot_be_written(guest: GuestPaths, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    assert main(["run", "--profile", "/no/such/dir/x", "--engine", "python", str(guest("hello"))]) == 125
    out, err = capfd.readouterr()
    assert (out, "/no/such/dir/x: No such file or directory" in err) == ("", True)  # before the guest has run


def test_a_profile_of_nothing_leaves_no_file(tmp_path: Path) -> None:
    assert main(["run", "--profile", str(tmp_path / "profile.json"), str(tmp_path / "none")]) == 127
    assert not list(tmp_path.iterdir())


CHILD = """
import sys
from aiopyvm.cli.measure import record_handlers
from aiopyvm.engine.native import perfmap
from aiopyvm.engine.python import PythonEngine
perfmap.record(1, 2, "nothing: not enabled")
path = perfmap.enable()
assert perfmap.enable() == path
perfmap.record(0x1234abcd, 0x40, "region 0x08048000")
perfmap.record(0x1000, 0, "of no size")
perfmap.record_symbols(0x7000, 0x300, [("b", 0x200), ("a", 0x100)])
perfmap.record_region(0x8000, 0x80, 0x8048000)
perfmap.name_guest_code(lambda address: "main" if address == 0x8048000 else "")
perfmap.record_region(0x9000, 0x80, 0x8048000)
perfmap.record(0x10, 1, "two\\nlines")
print(path)
"""


def test_the_map_for_perf() -> None:
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True, timeout=60)
    path = Path(done.stdout.strip())
    try:
        assert path.name.startswith("perf-")
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.read_text() == (
            "1234abcd 40 region 0x08048000\n7100 100 a\n7200 100 b\n"
            "8000 80 guest 0x08048000\n9000 80 guest 0x08048000 main\n10 1 two?lines\n"
        )
    finally:
        path.unlink()


def test_the_map_of_somebody_else_is_not_touched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    there = tmp_path / "perf.map"
    there.write_text("precious")
    monkeypatch.setattr(perfmap, "path", lambda: str(there))
    monkeypatch.setattr(os, "geteuid", lambda: there.stat().st_uid + 1)
    with pytest.raises(FileExistsError):
        perfmap.enable()
    assert not perfmap.enabled()
    assert there.read_text() == "precious"
    monkeypatch.setattr(os, "geteuid", lambda: there.stat().st_uid)
    try:
        perfmap.enable()
        perfmap.record(1, 1, "x")
        assert there.read_text() == "1 1 x\n"
    finally:
        perfmap.disable()


def test_regions_are_in_the_map(guest: GuestPaths, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Compiled code of the guest's own loops, by their addresses."""
    engine = hot_engine(200)
    monkeypatch.setattr(perfmap, "path", lambda: str(tmp_path / "perf.map"))
    perfmap.enable()
    perfmap.name_guest_code(lambda address: f"near {address:x}")
    try:
        with Lockstep(elf(guest("quicksort")), (engine, PythonEngine())) as lockstep:
            assert lockstep.run(100_000).difference is None
    finally:
        perfmap.disable()
    lines = [line.split() for line in (tmp_path / "perf.map").read_text().splitlines()]
    assert len(lines) > 3
    for address, size, *name in lines:
        assert name[0] == "guest"
        assert name[3] == f"{int(name[1], 16):x}"
        assert int(address, 16) > 1 << 32
        assert 0 < int(size, 16) < 1 << 20
    assert engine.statistics()["region_compile_ms"] >= 0


def test_handlers_are_in_the_map(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    engine_of("native")
    monkeypatch.setattr(perfmap, "path", lambda: str(tmp_path / "perf.map"))
    try:
        perfmap.enable()
        assert record_handlers()
    finally:
        perfmap.disable()
    names = {line.split()[2] for line in (tmp_path / "perf.map").read_text().splitlines()}
    assert {"run", "leave_budget"} <= names
