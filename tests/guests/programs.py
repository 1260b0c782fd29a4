"""What each guest program is run with: the same list for the host and for every engine and event loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Program:
    """One run of one guest: committed (guests/bin/NAME) or, with `glibc`, built from tests/guests/glibc/NAME.c.

    `slow` runs are left out on the evaluator; those `of_maker`, which try what makers of processors do differently, are
    where the processor is of another maker than that of the recorded vectors. `flat` names the guest's flat form: the
    same program, another loader.
    """

    name: str
    args: tuple[str, ...] = ()
    stdin: bytes = b""
    glibc: bool = False
    flat: str = ""
    slow: bool = False
    of_maker: bool = False

    def __str__(self) -> str:
        return "-".join((self.name, *self.args)).replace("/", "_")


_TEXT: Final = b"The quick brown fox\njumps over\tthe lazy dog.\n\nlast line without an end"
_NUMBERS: Final = b"".join(b"%d\n" % (i * 7919 % 1000 - 300) for i in range(40))

COMMITTED: Final = (
    Program("hello"),
    Program("hello_zero"),
    Program("hello_pie"),
    Program("hello_raw", flat="hello_raw.bin"),
    Program("upper_raw", stdin=_TEXT, flat="upper_raw.bin"),
    Program("upper_zero", stdin=_TEXT),
    Program("primes_raw", flat="primes_raw.bin"),
    Program("args", ("one", "two words", "")),
    Program("echo", stdin=_TEXT),
    Program("bubblesort", ("25",)),
    Program("insertionsort", ("30",)),
    Program("quicksort", ("50",)),
    Program("quicksort", ("1000",), slow=True),
    Program("memcpy_test", slow=True),
    Program("structs"),
    Program("structs_o0"),
    Program("recursion", slow=True),
    Program("malloc_test", slow=True),
    Program("base64", stdin=bytes(range(256))),
    Program("base64", ("-d",), b"SGVsbG8sIHdvcmxkIQo="),
    Program("matrix", ("8",)),
    Program("calculator", stdin=b"1+2*3\n(4+5)*-2\n1/0\n2+\n7%4 - 10\n((2\nquit\n"),
    Program("rpn", stdin=b"3 4 + dup * = 2 swap - ="),
    Program("rpn", stdin=b"1 +"),
    Program("wc", stdin=_TEXT),
    Program("sort", stdin=_TEXT),
    Program("sort", ("-rn",), _NUMBERS),
    Program("cat", stdin=_NUMBERS),
    Program("sieve", ("300",)),
    Program("sha256", stdin=b"abc"),
    Program("sha256", ("1",), slow=True),
    Program("fib", ("12",)),
    Program("fib_zero", ("12",)),
    Program("bytecode", ("7",)),
    Program("bytecode", ("60",), slow=True),
    Program("copy", ("1",), slow=True),
    Program("list", ("1",), slow=True),
    Program("states", ("2",)),
    Program("seq", ("5", "12")),
    Program("head", ("-2",), _TEXT),
    Program("grep", ("fox",), _TEXT),
    Program("grep", ("wolf",), _TEXT),
    Program("guess", stdin=b"100\n<\n>\n=\n"),
    Program("crash", ("null",)),
    Program("crash", ("divide",)),
    Program("crash", ("illegal",)),
    Program("crash", ("stack",), slow=True),
    Program("crash", ("7",)),
)

GLIBC: Final = (
    Program("hello", glibc=True),
    Program("formats", ("a b", "c"), b"one 1 two 2 x", glibc=True, slow=True),
    Program("floats", glibc=True, slow=True),
    Program("roundtrips", ("40",), glibc=True, slow=True),
    Program("memory", glibc=True, slow=True),
    Program("signals", glibc=True, slow=True),
    Program("processes", glibc=True, slow=True),
    Program("files", glibc=True, slow=True),
    Program("polling", glibc=True, slow=True),
    Program("selfmod", glibc=True, slow=True),
    Program("steps", glibc=True, of_maker=True),
    Program("segments", glibc=True, slow=True, of_maker=True),
)
