"""Every example runs and prints what it should."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"

EXPECTED = {
    "hello": "Hello, world!\nEXITED, status 0\n",
    "interactive": "> 6 * 7\n42\n> (1 + 2) * -4\n-12\n> 1 / 0\nerror: division by zero\n> quit\nbye\nstatus 0\n",
    "judge": (
        "sort       accepted\n"
        "cat        wrong answer\n"
        "spin       time limit exceeded\n"
        "flood      output limit exceeded\n"
        "crash      runtime error (#DE at eip 0x080483fa)\n"
        "guess      accepted after 9 questions\n"
    ),
    "agent_tool": (
        "mallory\nalice\nbob\nthe answer is 42\na\nb\nspinning\n[INSTRUCTION_LIMIT, status -9]\n[EXITED, status 1]\n"
    ),
    "single_step": (
        "00000000  b903000000   mov ecx, 0x3         ecx=0x3\n"
        "00000005  01c0         add eax, eax         eax=0xe\n"
        "00000007  e2fc         loop 0x5             ecx=0x2\n"
        "00000005  01c0         add eax, eax         eax=0x1c af=0x1\n"
        "00000007  e2fc         loop 0x5             ecx=0x1\n"
        "00000005  01c0         add eax, eax         eax=0x38\n"
        "00000007  e2fc         loop 0x5             ecx=0x0\n"
        "eax = 56\n"
        "stopped at fib, n = 10\n"
        "fib(10) = 8\n"
    ),
    "deadline_trio": (
        "guest: b'spinning\\n'\ncancelled: True, CANCELLED, status -9\nguest 1 runs in the nursery\nfib(16) = 987\n"
    ),
    "ten_thousand": "30 guests wait for input\nall have left; the answers are right: True\n",
}
ARGUMENTS = {"ten_thousand": ["30"]}


def run(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", *command], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_example(name: str) -> None:
    assert run(str(EXAMPLES / f"{name}.py"), *ARGUMENTS.get(name, [])) == EXPECTED[name]


def test_a_debian_system(debian: Path) -> None:
    assert run(str(EXAMPLES / "debian.py"), str(debian)) == "15\nLinux i686\n42\nHELLO\n"


def test_pipeline_runs_beside_the_sieve() -> None:
    lines = run(str(EXAMPLES / "pipeline.py")).splitlines()
    assert [line for line in lines if line.startswith("pipeline")] == [
        "pipeline: 1000",
        "pipeline: 999",
        "pipeline: 998",
    ]
    assert [line for line in lines if line.startswith("sieve")] == ["sieve: 2262 primes up to 20000, the last is 19997"]


def test_raw_bytes() -> None:
    lines = run(str(EXAMPLES / "raw_bytes.py")).splitlines()
    assert "imul eax, ebx" in "\n".join(lines)
    assert lines[-3:] == ["eax = 42, memory[0x20] = 42", "END_OF_CODE, eax = 42", "Hello from raw assembly"]


def test_pytest_example() -> None:
    assert "4 passed" in run("-m", "pytest", "-q", "-p", "no:cacheprovider", str(EXAMPLES / "test_with_pytest.py"))


def test_every_example_is_tried() -> None:
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert names == set(EXPECTED) | {"debian", "pipeline", "raw_bytes", "test_with_pytest"}
