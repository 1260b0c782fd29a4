"""busybox of Debian's i386 packages, unmodified: applets and scripts natively and in a guest, same bytes and status."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aiopyvm import VM
from tests.native import NativeRun

pytestmark = pytest.mark.native

WORDS = b"pear\napple\nfig\napple\ncherry\nbanana\nfig\napple\n"
TABLE = b"".join(b"%d;name%d;%d\n" % (i, i % 7, i * i % 50) for i in range(40))


def _archive() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in (("one", b"first\n"), ("two", b"second\n" * 100)):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


FILES: dict[str, bytes] = {
    "words": WORDS,
    "table": TABLE,
    "empty": b"",
    "noise": bytes(range(256)) * 40,
    "a.tar": _archive(),
}

SUMS = '{ s[$2] += $3 } END { for (i = 0; i < 7; i++) printf "%s %d %.3f\\n", i, s["name" i], s["name" i] / 7 }'

APPLETS: dict[str, tuple[list[str], bytes]] = {
    "ls": (["-1"], b""),
    "cat": (["words", "-", "table"], b"from standard input\n"),
    "sort": (["-t;", "-k3n", "-k1n", "table"], b""),
    "awk": (["-F;", SUMS, "table"], b""),
    "sed": (["-e", "s/\\([a-z]\\)\\1/<\\1>/g", "-e", "2d", "-e", "$!N", "words"], b""),
    "grep": (["-nE", "^(a|f).*[eg]$", "words"], b""),
    "sha256sum": (["noise", "empty"], b""),
    "gzip": (["-c"], TABLE * 20),
    "gunzip": (["-c"], gzip.compress(TABLE, mtime=0)),
    "seq": (["-s,", "3", "4", "40"], b""),
    "wc": (["words", "table", "noise"], b""),
    "find": ([".", "-name", "w*", "-size", "-2"], b""),
    "cut": (["-d;", "-f2,3", "table"], b""),
    "tr": (["a-y", "b-z"], WORDS),
    "expr": (["(", "7", "*", "6", ")", "-", "2", "*", "5"], b""),
    "printf": (["%05d|%-6s|%x|%c\\n", "42", "ab", "255", "z", "7", "cd", "16", "y"], b""),
    "head": (["-n", "-35", "table"], b""),
    "tail": (["-c", "20", "table"], b""),
    "od": (["-A", "x", "-t", "x1", "-c", "-N", "100", "noise"], b""),
    "md5sum": (["words", "noise"], b""),
    "date": (["-u", "-d", "@1234567890", "+%Y-%m-%d %H:%M:%S %a %j"], b""),
    "tar": (["-xOf", "a.tar", "two"], b""),
    "uniq": (["-c", "words"], b""),
    "tee": (["copy"], WORDS),
    "xargs": (["-n2", "echo", "+"], b"1 2 3\n4 'five six'"),
    "test": (["-f", "nothing"], b""),
    "base64": (["noise"], b""),
    "dd": (["bs=100", "skip=1", "count=2", "if=table"], b""),
    "cmp": (["words", "table"], b""),
}

SCRIPTS: dict[str, str] = {
    "pipeline": "cat words | sort | uniq -c | sort -rn | head -2",
    "loops": "for i in 1 2 3; do j=0; while [ $j -lt $i ]; do printf '%s' $j; j=$((j + 1)); done; echo; done",
    "substitution": "x=$(seq 5 | tr '\\n' +)0; echo $x = $((x)); echo `echo nested $(echo deep)`",
    "functions": "f() { [ $1 -le 1 ] && echo 1 && return; echo $(($1 * $(f $(($1 - 1))))); }; f 6",
    "case": "for w in $(cat words); do case $w in a*|b*) echo early $w;; f?g) echo fig;; *) echo other;; esac; done",
    "redirection": "echo one > r; echo two >> r; cat < r; { echo a; echo b >&2; } 2>&1 | sort; rm r; ls r 2>/dev/null",
    "here": "cat <<END | sed 's/^/> /'\n$((6 * 7)) is $(echo the answer)\nEND",
    "status": "false | true; echo $?; (exit 7); echo $?; sh -c 'kill -9 $$'; echo $?; ! true; echo $?; exit 5",
    "background": "(sleep 0.05; echo later) & echo first; wait; echo last; sh -c 'exit 3' & wait $!; echo $?",
    "traps": "trap 'echo leaving' EXIT; trap 'echo caught' USR1; kill -USR1 $$; set -e; false; echo never",
    "variables": "set -- a 'b c' d; echo $# \"$2\" ${3:-x} ${4:-x}; v=path/to/file.txt; echo ${v##*/} ${v%.*} ${#v}",
    "read": "while IFS=';' read -r a b c; do [ $((a % 10)) = 0 ] && echo \"$b-$c\"; done < table",
    "files": "mkdir -p d/e; for i in 3 1 2; do echo $i > d/e/$i; done; find d -type f | sort | xargs cat; rm -r d",
    "compress": "gzip -c table | gunzip -c | cmp - table && tar -cf - words table | tar -tf - | sort",
    "documents": "x=5; cat <<'A' - <<B\nraw $x\nA\nB\ncat <<-E\n\ttab $x $((x + 1))\n\tE",
    "descriptors": "exec 3>o; echo a >&3; exec 3>&-; exec 4<o; read l <&4; echo $l; cat <&4; ls no 2>&1 | wc -c",
    "fifo": "mkfifo f; (for i in 1 2 3; do echo $i; done >f) & while read x; do echo got $x; done <f; wait; rm f",
    "jobs": "sleep 9 & p=$!; kill -STOP $p; kill -CONT $p; kill -TERM $p; wait $p; echo $?; sleep 0.1 & wait; echo $?",
    "links": "mkdir -p a/b; seq 9 >a/b/x; ln -s x a/b/l; ln a/b/x a/b/h; tar -cf - a | (mkdir t; cd t; tar -x; ls a/b)",
    "long": "seq 60 | while read n; do echo $n; done | awk '{ s += $1 } END { print s }'",
}


@pytest.fixture
def native_directory(busybox: Path, tmp_path: Path) -> Path:
    """The files, and a directory of links to busybox as the whole PATH."""
    (tmp_path / "bin").mkdir()
    for applet in _applets():
        (tmp_path / "bin" / applet).symlink_to(busybox.resolve())
    work = tmp_path / "work"
    work.mkdir()
    for name, data in FILES.items():
        (work / name).write_bytes(data)
    return tmp_path


@pytest.fixture(scope="module")
def program(busybox: Path) -> bytes:
    """The bytes of busybox."""
    return busybox.read_bytes()


def _applets() -> list[str]:
    return sorted({"sh", "echo", "cat", "sleep", "true", "rm", "mkdir", "kill", "mkfifo", "ln", *APPLETS})


async def _machine(program: bytes) -> VM:
    root = {"bin": {"busybox": program}, "work": FILES, "tmp": {}}
    vm = VM(root=root, cwd="/work", env={"PATH": "/bin"}, clock="virtual")  # a busy host ends no sleep too early
    for applet in _applets():
        await vm.path(f"/bin/{applet}").symlink_to("busybox")
    return vm


async def _compare(program: bytes, directory: Path, native: NativeRun, argv: list[str], stdin: bytes) -> None:
    expected = native(
        directory / "bin" / argv[0],
        *argv[1:],
        stdin=stdin,
        argv0=argv[0],
        cwd=directory / "work",
        env={"PATH": os.fspath(directory / "bin"), "HOME": "/"},
    )
    vm = await _machine(program)
    result = await vm.run(*argv, stdin=stdin)
    assert (result.returncode, result.stderr) == (expected.returncode, expected.stderr), result
    assert result.stdout == expected.stdout
    assert result.unknown_syscalls == {}


@pytest.mark.both_loops
@pytest.mark.parametrize("applet", APPLETS)
async def test_applet(applet: str, program: bytes, native_directory: Path, native: NativeRun) -> None:
    arguments, stdin = APPLETS[applet]
    await _compare(program, native_directory, native, [applet, *arguments], stdin)


@pytest.mark.both_loops
@pytest.mark.parametrize("script", SCRIPTS)
async def test_script(script: str, program: bytes, native_directory: Path, native: NativeRun) -> None:
    await _compare(program, native_directory, native, ["sh", "-c", SCRIPTS[script]], b"")


@pytest.mark.both_loops
async def test_three_machines_in_a_pipeline(program: bytes) -> None:
    async def numbers() -> AsyncIterator[bytes]:
        for i in range(500):
            yield b"%d\n" % (i * 7919 % 1000)

    vm = await _machine(program)
    async with vm.pipeline(["grep", "7"], ["sort", "-rn"], ["head", "-3"], stdin=numbers()) as pipeline:
        lines = [line async for line in pipeline.stdout.lines("utf-8")]
    expected = sorted((n for i in range(500) if "7" in str(n := i * 7919 % 1000)), reverse=True)[:3]
    assert lines == [str(n) for n in expected]
