"""Command lines of Debian's programs (`commands.txt`), the files that they work on, and what Linux made of them
(`recorded.json`: `python -m tests.guests.debian.record` runs them on the host)."""

from __future__ import annotations

import json
import random
import re
import stat
import zlib
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
RECORDED = HERE / "recorded.json"
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/work",
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "TERM": "dumb",
}
FILES = {
    "words": "banana\napple\ncherry\ndate\nelderberry\nfig\n",
    "pairs": "1 one\n2 two\n3 three\n",
    "mixed": "tab\there  two  spaces\nnumber 42 and 7\n\x01control\n",
    "blanks": "a\n\n\n\nb\n",
    "colons": "x:3:aa\ny:1:bb\nz:2:cc\n",
    "numbers": "10\n9\n100\n1\n",
    "left": "a 1\nb 2\nd 4\n",
    "right": "a x\nc y\nd z\n",
    "dups": "k\nk\nj\nk\nj\ni\n",
    "graph": "a b\nb c\na c\n",
    "long": "The quick brown fox jumps over the lazy dog and runs far away into the deep dark woods again.\n",
    "script.sh": "#!/bin/bash\necho \"$0 has $#: $2 $1\"\nexit 4\n",
    "Makefile": "all: a.out2\n\t@echo all of $^\na.out2: words\n\tcp words a.out2\n"
    "clean:\n\trm -f a.out2 words\nfail:\n\t@echo before; exit 2\npar: p1 p2 p3\np1 p2 p3:\n\t@echo $@\n",
    "hello.c": "#include <stdio.h>\nint main(int c, char **v) { printf(\"hello %d %s\\n\", c, v[c - 1]); return 0; }\n",
    "bad.c": "int main(void) { return nosuch + ; }\n",
    "prog.py": "import sys\nfor n, line in enumerate(sys.stdin):\n    print(n, line.strip()[::-1])\n",
    "server.py": "import asyncio\n\nasync def answer(r, w):\n"
    "    w.write((await r.readline()).upper())\n    w.close()\n\n"
    "async def ask(port, n):\n    r, w = await asyncio.open_connection('127.0.0.1', port)\n"
    "    w.write(b'hello %d\\n' % n)\n"
    "    return (await r.read()).decode().strip()\n\nasync def main():\n"
    "    s = await asyncio.start_server(answer, '127.0.0.1', 0)\n    port = s.sockets[0].getsockname()[1]\n"
    "    print(await asyncio.gather(*(ask(port, n) for n in range(5))))\n\nasyncio.run(main())\n",
    "dir/a.c": "int main(void) { return 0; }\n",
    "dir/b.txt": "text\n",
    "dir/sub/x": "deep\n",
    "big": "".join(random.Random(7).choices("abcdefgh \n", k=50_000)),
}  # fmt: skip
LINKS = {"link": "words"}  # symbolic
HARD_LINKS = {"hard": "pairs"}
EXECUTABLE = ("script.sh",)
PID = re.compile(r"(?<=: line )(\d+): +\d+ (Killed|Segmentation fault|Terminated|Aborted|Alarm clock)")


class Outcome(NamedTuple):
    """What a command line did: exit status (-n for signal n), its output without process ids, and the files then.

    `files`: for each name its type and mode, and where a link leads (from /) or the checksum of what is in a file.
    """

    status: int
    out: str
    err: str
    files: dict[str, str]


def outcome(status: int, out: bytes, err: bytes, files: dict[str, str]) -> Outcome:
    """Return what is compared of a run."""
    return Outcome(status, out.decode("latin-1"), PID.sub(r"\1: PID \2", err.decode("latin-1")), files)


def described(name: str, mode: int, link: str, content: bytes) -> str:
    """Return what is compared of a file: of what compilers make, not the content."""
    kind = f"{stat.filemode(mode)} {link}".strip()
    return f"{kind} {zlib.crc32(content)}" if stat.S_ISREG(mode) and name not in ("h", "hello.o") else kind


def commands() -> list[str]:
    """The command lines, in order; one that goes on over several lines has its quotes open."""
    found: list[str] = []
    unfinished = ""
    for line in (HERE / "commands.txt").read_text().splitlines():
        if unfinished:
            unfinished += "\n" + line
        elif line and not line.startswith("#"):
            unfinished = line
        if unfinished and unfinished.count("'") % 2 == 0:
            found.append(unfinished)
            unfinished = ""
    assert not unfinished, unfinished
    return found


def recorded() -> dict[str, Outcome]:
    """What Linux did, by command line."""
    return {line: Outcome(*known) for line, known in json.loads(RECORDED.read_text()).items()}
