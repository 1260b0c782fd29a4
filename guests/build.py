"""Builds the guests of guests/src into guests/bin: `python guests/build.py [--check] [NAME...]`. Needs `gcc -m32`.

The binaries are committed, so that a fresh machine needs no compiler. The same compiler gives the same bytes: nothing
of the build machine (paths, dates, build ids) is in them. `--check` builds elsewhere and says which differ.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
SOURCES, BINARIES = HERE / "src", HERE / "bin"

COMPILE = (
    "gcc -m32 -march=i686 -O2 -std=gnu11 -Wall -Wextra -ffreestanding -fno-builtin -nostdlib -static -fno-pic -no-pie "
    "-fno-stack-protector -fcf-protection=none -fno-asynchronous-unwind-tables -fno-ident -mno-sse -mno-mmx "
    "-fno-tree-loop-distribute-patterns -Wl,--build-id=none -Wl,-z,noexecstack -Wl,-z,norelro -Wl,-z,noseparate-code"
).split()
STRIP = ["-s"]

AT_ZERO = ["-Wl,-Ttext-segment=0"]
HARNESS = ["-mgeneral-regs-only", "-Wl,-Ttext-segment=0x70000000", "-Wl,-z,separate-code"]

# Guests whose options are not the usual ones: name of the binary, source, options.
SPECIAL: dict[str, tuple[str, list[str]]] = {
    "harness": ("harness.c", [*STRIP, *HARNESS]),
    "drill": ("drill.c", [*STRIP, "-Wl,-Ttext-segment=0x70000000"]),
    "hello_zero": ("hello.c", [*STRIP, *AT_ZERO]),
    "fib_zero": ("fib.c", [*STRIP, *AT_ZERO]),
    "upper_zero": ("upper_raw.S", [*STRIP, *AT_ZERO]),
    "structs_o0": ("structs.c", [*STRIP, "-O0"]),
    "hello_pie": ("hello.c", [*STRIP, "-fpie", "-static-pie", "-Wl,--no-dynamic-linker"]),
    "fib": ("fib.c", []),  # keeps its symbols: debuggers and examples look them up
}
FLAT = ("hello_raw", "upper_raw", "primes_raw")  # also as .bin: the text alone, to be loaded anywhere


def recipes() -> dict[str, tuple[str, list[str]]]:
    """Return source and options of every binary, by name; flat ones end in `.bin`."""
    usual = {path.stem: (path.name, STRIP) for path in sorted(SOURCES.iterdir()) if path.suffix in (".c", ".S")}
    flat = {f"{name}.bin": (f"{name}.S", ["-Wl,--oformat=binary", "-Wl,-Ttext=0"]) for name in FLAT}
    return {**usual, **SPECIAL, **flat}


def build(name: str, directory: Path) -> Path:
    """Build one guest into `directory` and return its path. Raises CalledProcessError."""
    source, options = recipes()[name]
    target = directory / name
    # Run in the sources' directory with a bare name: no path of this machine can get into the binary.
    subprocess.run([*COMPILE, *options, "-o", str(target), source], cwd=SOURCES, check=True)
    return target


def differing(names: list[str]) -> list[str]:
    """Build `names` in a temporary directory and return those whose bytes are not the committed ones."""
    with tempfile.TemporaryDirectory() as directory:
        return [
            name
            for name in names
            if not (BINARIES / name).exists()
            or build(name, Path(directory)).read_bytes() != (BINARIES / name).read_bytes()
        ]


def main() -> int:
    """Build what the command line names, everything by default."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="guests to build (default: all)")
    parser.add_argument("--check", action="store_true", help="build elsewhere and compare with guests/bin")
    arguments = parser.parse_args()
    names: list[str] = arguments.names or list(recipes())
    if arguments.check:
        wrong = differing(names)
        for name in wrong:
            print(f"{name}: differs from guests/bin/{name}")
        return bool(wrong)
    BINARIES.mkdir(exist_ok=True)
    for name in names:
        path = build(name, BINARIES)
        print(f"{name:16} {path.stat().st_size:6} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
