"""`#!` lines; every expected value was observed on Linux, by a program that prints its arguments."""

from __future__ import annotations

import pytest

from aiopyvm.errors import LoadError
from aiopyvm.loader.script import parse_script

SH = b"/bin/sh"
HEAD = b"#!" + SH + b" "


@pytest.mark.parametrize(
    ("line", "argument"),
    [
        (b"#!/bin/sh\n", None),
        (b"#! \t/bin/sh \t x y \t\nz", b"x y"),
        (b"#!/bin/sh", None),
        (b"#!/bin/sh -x", b"-x"),
        (b"#!/bin/sh  ", b""),
        (b"#!/bin/sh  \n", None),
        (b"#!/bin/sh\0junk x\n", None),
        (b"#!/bin/sh arg\0more\n", b"arg"),
        (b"#!/bin/sh \0more\n", b""),
        (b"#!/bin/sh x\r\n", b"x\r"),
        (HEAD + b"a" * (255 - len(HEAD)) + b"\n", b"a" * (255 - len(HEAD))),
        (HEAD + b"a" * 300 + b"\n", b"a" * (255 - len(HEAD))),
        (HEAD + b"a b" + b" " * 300, b"a b"),
        (HEAD + b"a b" + b" " * 50, b"a b" + b" " * 50),
        (b"#!" + SH.rjust(252, b" ") + b" x\n", None),
        (b"#!" + SH.rjust(252, b" ") + b"\n", None),
    ],
)
def test_lines(line: bytes, argument: bytes | None) -> None:
    assert parse_script(line) == (SH, argument)


NAMELESS = [b"#!\n", b"#!   \n", b"#!" + b" " * 300, b"#!" + b"/" * 254 + b"\n", b"#!" + b"/" * 253 + b"y" * 11]


@pytest.mark.parametrize("line", NAMELESS)
def test_lines_without_an_interpreter(line: bytes) -> None:
    with pytest.raises(LoadError, match="#! line"):
        parse_script(line)


@pytest.mark.parametrize("data", [b"", b"#", b"# !/bin/sh\n", b"\x7fELF"])
def test_what_is_no_script(data: bytes) -> None:
    assert parse_script(data) is None
