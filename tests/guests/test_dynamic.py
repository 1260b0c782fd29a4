"""Dynamically linked programs: the interpreter and the libraries are the guest's own files (ld.so(8))."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from aiopyvm import VM, HostDir, LoadError

pytestmark = pytest.mark.anyio


async def run(root: Path, *argv: str) -> tuple[int, bytes, bytes]:
    result = await VM(root=HostDir(root, "cow")).run(*argv)
    return result.returncode, result.stdout or b"", result.stderr or b""


async def test_a_program_finds_its_libraries(debian: Path) -> None:
    assert await run(debian, "/bin/echo", "hello") == (0, b"hello\n", b"")


async def test_places_in_memory_are_those_of_linux_without_randomization(debian: Path) -> None:
    """setarch -R on Linux: the program at 0x56555000 with the heap behind it, libraries below 0xf7ffe000."""
    status, out, _ = await run(debian, "/bin/cat", "/proc/self/maps")
    lines = [line.split(maxsplit=5) for line in out.decode().splitlines()]
    places = {(words[5] if len(words) > 5 else "").strip(): words[0].split("-") for words in reversed(lines)}
    last = {(words[5] if len(words) > 5 else "").strip(): words[0].split("-") for words in lines}
    assert status == 0
    assert places["/bin/cat"][0] == "56555000"
    assert int(places["[heap]"][0], 16) - int(last["/bin/cat"][1], 16) in range(0x4000)
    interpreter = next(path for path in last if path.endswith("ld-linux.so.2"))
    assert last[interpreter][1] == "f7ffe000"
    assert int(places["[vdso]"][0], 16) < int(places[interpreter][0], 16)
    assert last["[stack]"][1] == "ffffe000"


async def test_mappings_tell_the_files_that_they_show(debian: Path) -> None:
    script = "cat /proc/self/maps; for f in /bin/cat /lib/i386-linux-gnu/libc.so.6; do stat -Lc '%Hd %Ld %i' $f; done"
    _, out, _ = await run(debian, "/bin/bash", "-c", script)
    *maps, program, library = out.decode().splitlines()
    for path, told in (("/bin/cat", program), ("libc.so.6", library)):
        major, minor, number = map(int, told.split())
        shown = {tuple(line.split()[3:5]) for line in maps if line.endswith(path)}
        assert shown == {(f"{major:02x}:{minor:02x}", str(number))}
    assert {tuple(line.split()[3:5]) for line in maps if line.endswith("[heap]")} == {("00:00", "0")}


async def test_what_ld_so_is_told(debian: Path) -> None:
    """LD_SHOW_AUXV shows AT_SYSINFO in the vdso and AT_BASE at the interpreter."""
    vm = VM(root=HostDir(debian, "cow"), env={"LD_SHOW_AUXV": "1"})
    told = dict(line.split(":", 1) for line in (await vm.run("/bin/true")).text.splitlines())
    told = {key: value.strip() for key, value in told.items()}
    assert int(told["AT_SYSINFO"], 16) >> 12 == int(told["AT_SYSINFO_EHDR"], 16) >> 12
    assert int(told["AT_ENTRY"], 16) >> 16 == 0x5655
    assert int(told["AT_BASE"], 16) > 0xF7000000
    assert told["AT_EXECFN"] == "/bin/true"


async def test_a_missing_interpreter_is_said(debian: Path) -> None:
    with pytest.raises(
        LoadError, match=r"interpreter '/lib/ld-linux.so.2' cannot be used \(.*ENOENT.*\): run it with a"
    ):
        await VM().run_elf(debian / "bin" / "true")


@pytest.fixture
def programs(debian: Path, busybox: Path) -> dict[str, bytes]:
    """A static shell and a dynamic `true`, for /bin."""
    return {"sh": busybox.read_bytes(), "true": (debian / "bin" / "true").read_bytes()}


async def test_exec_of_a_program_without_its_interpreter(programs: dict[str, bytes]) -> None:
    """ENOENT, as on Linux, and ELIBBAD where it is no program; the shell says so."""
    vm = VM(root={"bin": programs, "lib": {}})
    result = await vm.run("/bin/sh", "-c", "/bin/true")
    assert (result.returncode, result.stderr) == (127, b"/bin/sh: /bin/true: not found\n")
    vm = VM(root={"bin": programs, "lib": {"ld-linux.so.2": b"no program"}})
    await vm.path("/lib/ld-linux.so.2").chmod(0o755)
    await vm.path("/bin/true").chmod(0o755)
    result = await vm.run("/bin/sh", "-c", "/bin/true")
    assert (result.returncode, result.stderr) == (
        126,
        b"/bin/sh: /bin/true: Accessing a corrupted shared library\n",
    )


async def test_many_at_once(debian: Path) -> None:
    results: list[bytes] = []

    async def one(n: int) -> None:
        results.append((await run(debian, "/bin/sh", "-c", f"echo {n} | sed s/^/n/"))[1])

    async with anyio.create_task_group() as tasks:
        for n in range(10):
            tasks.start_soon(one, n)
    assert sorted(results) == [b"n%d\n" % n for n in range(10)]


async def test_the_native_run_is_equal(debian: Path) -> None:
    script = "set -- a b c; for x; do printf '%s-' $x; done; echo; ls /etc | sort | head -5; expr 6 \\* 7"
    try:
        native = await anyio.run_process(["chroot", str(debian), "/bin/bash", "-c", script], check=False)
    except OSError:
        pytest.skip("no chroot here")
    if native.returncode == 125:
        pytest.skip("chroot needs root")
    assert await run(debian, "/bin/bash", "-c", script) == (native.returncode, native.stdout, native.stderr)
