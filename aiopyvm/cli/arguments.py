"""What the command line takes, and what `--help` says."""

from __future__ import annotations

import argparse
import functools
import os
from collections.abc import Callable
from typing import Any, Final, NoReturn

from aiopyvm.isa.processors import PROCESSORS

UNITS: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}

DESCRIPTION: Final = "Run 32-bit x86 Linux programs inside this Python process: no container, no root, no KVM."

EXAMPLES: Final = """\
examples:
  aiopyvm run ./hello                          a program of this host, with this terminal's streams
  aiopyvm run ./sort -rn < numbers             options after PROGRAM are the program's
  aiopyvm run --root rootfs/ ls -l /bin        a program of a directory tree; the tree is not changed
  aiopyvm run --tar rootfs.tar.xz ls -l /bin   the same out of an archive
  aiopyvm run --oci image/ --                  the command of an image
  aiopyvm run --mount .:/src:ro --cwd /src --root rootfs/ make -n
  aiopyvm run --instructions 1000000 --memory 16M --timeout 2 ./untrusted
  aiopyvm run --strace ./hello                 system calls, on standard error
  aiopyvm run --stats --profile out.json ./primes
  aiopyvm pipe 'seq 1000 | sort -rn | head -3' --root rootfs/
  aiopyvm asm 'mov eax, 1; int 0x80' > exit.bin
  aiopyvm run --flat exit.bin
  aiopyvm disasm exit.bin
  aiopyvm lockstep --against hardware ./hello  does an engine do what this processor does?

The exit status is the program's own, 128 + n when signal n ended it. 124: out of time or instructions. 125: aiopyvm
could not run it. 126: the program cannot be executed. 127: there is no such program.
"""

RUN_HELP: Final = """\
PROGRAM is a path of this host; with --root, --tar or --oci it is a path (or a name, looked up in PATH) inside that
tree. The guest sees nothing of this host but its streams and what these and --mount name. Its environment is PATH,
HOME=/ and --env. An image has a user, a directory and variables of its own; --user, --cwd and --env come before them.
"""

PIPE_HELP: Final = """\
Run 'a | b | c', each in a machine of its own. The exit status is that of the last program; that an earlier one failed
is one line on standard error, and with --pipefail the status, too. What ends because nobody reads its output any more
(SIGPIPE) is no line.
"""

LOCKSTEP_HELP: Final = """\
Run PROGRAM on two engines at once and compare registers, flags, memory and instruction counts as it goes. The first
instruction that they do not do alike is shown: its bytes and text, its IR, what was before it, and what each of them
made of it. The processor of this host can be one of the two (--against hardware), where it is an x86. Time is virtual
and random bytes come from a seed. The exit status is 0 when both did the same, 1 when they did not.
"""

DISASM_HELP: Final = "Disassemble an ELF program, a flat binary, or hex digits."
ASM_HELP: Final = "Assemble text, one instruction per line or between semicolons."

CACHE_HELP: Final = """\
Compiled code is kept in AIOPYVM_CACHE_DIR, else in the user's cache directory. Nobody else may use that directory (mode
700), and no guest reaches it. It may be removed at any time: what is missing is made again.
"""


def size(text: str) -> int:
    """Return a number of bytes: 4096, 64K, 256M, 1G."""
    number, unit = (text[:-1], text[-1].lower()) if text and text[-1].lower() in "kmg" else (text, "")
    try:
        value = int(number) * UNITS[unit]
    except ValueError:
        raise argparse.ArgumentTypeError(f"a size is a number with K, M or G after it, not {text!r}") from None
    return positive(value, text)


def count(text: str) -> int:
    """Return a positive whole number: 1000000, 1_000_000, 1e6."""
    try:
        number = int(text) if "e" not in text.lower() else int(float(text)) if float(text).is_integer() else 0
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"not a whole number: {text!r}") from None
    return positive(number, text)


def seconds(text: str) -> float:
    """Return a positive number of seconds."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"not a number of seconds: {text!r}") from None
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"seconds must be positive: {text!r}")
    return value


def positive(value: int, text: str) -> int:
    """Return `value`. Raises ArgumentTypeError unless it is positive."""
    if value <= 0:
        raise argparse.ArgumentTypeError(f"must be positive: {text!r}")
    return value


def address(text: str) -> int:
    """Return a 32-bit address, decimal or 0x..."""
    try:
        value = int(text, 0)
    except ValueError:
        raise argparse.ArgumentTypeError(f"not an address: {text!r}") from None
    if not 0 <= value <= 0xFFFFFFFF:
        raise argparse.ArgumentTypeError(f"an address has 32 bits: {text!r}")
    return value


def variable(text: str) -> tuple[str, str]:
    """Return the name and value of NAME=VALUE."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"an environment variable is NAME=VALUE, not {text!r}")
    return name, value


def mount(text: str) -> tuple[str, str, str]:
    """Return the parts of HOST:GUEST[:ro|cow|rw]; the mode is "ro" when it is left out."""
    parts = text.rsplit(":", 2) if text.endswith((":ro", ":cow", ":rw")) else [*text.rsplit(":", 1), "ro"]
    if len(parts) != 3 or not parts[0] or not parts[1].startswith("/"):
        raise argparse.ArgumentTypeError(f"a mount is HOST:/GUEST, or HOST:/GUEST:ro, :cow or :rw, not {text!r}")
    return parts[0], parts[1], parts[2]


def port(text: str) -> int:
    """Return a port's number, 0 to 65535."""
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"a port is 0 to 65535, not {text!r}")
    return int(text)


def host_and_port(text: str) -> tuple[str, int]:
    """Return the parts of HOST:PORT; an IPv6 address may stand in brackets."""
    host, _, number = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or port(number) == 0:
        raise argparse.ArgumentTypeError(f"what the guest may reach is HOST:PORT, not {text!r}")
    return host, port(number)


def published(text: str) -> tuple[tuple[str, int], int]:
    """Return ((address, port), guest's port) from [ADDRESS:]PORT:GUEST."""
    front, _, guest = text.rpartition(":")
    address, _, number = front.rpartition(":")
    if port(guest) == 0:
        raise argparse.ArgumentTypeError(f"what is published is [ADDRESS:]PORT:GUEST, not {text!r}")
    return (address.removeprefix("[").removesuffix("]") or "127.0.0.1", port(number)), port(guest)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    bare = False  # its program may be left out after a "--": it is "" then
    fill: Callable[[Parser], None] | None = None  # gives it its arguments, once they are needed: most commands are not

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As `ArgumentParser`."""
        self._be_filled()
        if self.bare and args and args[-1] == "--":
            parsed = super().parse_known_args([*args, ""], namespace)
            if parsed[0].program == "":
                return parsed
        return super().parse_known_args(args, namespace)

    def format_help(self) -> str:
        """As `ArgumentParser`."""
        self._be_filled()
        return super().format_help()

    def _be_filled(self) -> None:
        fill, self.fill = self.fill, None
        if fill is not None:
            fill(self)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and leave with status 2."""
        message = message.replace("PROGRAM, ARG", "PROGRAM")  # there may be none of the latter
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


class Line(argparse.Action):
    """The one argument of `pipe`; several are a line that was not quoted."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option: str | None = None) -> None:
        """Keep the line."""
        if len(values) != 1:
            parser.error(f"the pipeline is one argument, in quotes: {' '.join(values)!r}")
        namespace.line = values[0]


class Formatter(argparse.RawDescriptionHelpFormatter):
    """As wide as the terminal; asked once, and without what `shutil` imports."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_columns() - 2)


@functools.cache
def _columns() -> int:
    try:
        columns = int(os.environ["COLUMNS"])
    except (KeyError, ValueError):
        columns = 0
    try:
        return columns if columns > 0 else os.get_terminal_size().columns or 80
    except OSError:
        return 80


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = Parser("aiopyvm", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=Formatter)
    parser.add_argument("--version", action="store_true", help="say which version this is")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", prog=parser.prog)
    for name, (text, description, fill) in _COMMANDS.items():
        commands.add_parser(name, help=text, description=description, formatter_class=Formatter).fill = fill
    return parser


def _fill_run(run: Parser) -> None:
    _add_machine(run)
    run.add_argument("--trace", action="store_true", help="show each executed instruction on standard error")
    run.add_argument("--strace", action="store_true", help="show each system call on standard error")
    run.add_argument(
        "--profile", metavar="FILE", help="write where its instructions went, for speedscope (- for the table alone)"
    )
    run.add_argument("--stats", action="store_true", help="show figures of the run and its engine on standard error")
    run.add_argument("--perf-map", action="store_true", help="name generated code for Linux perf: /tmp/perf-PID.map")
    run.add_argument("--flat", action="store_true", help="PROGRAM is a flat binary: no headers, just code")
    run.add_argument("--load-at", type=address, default=0, metavar="ADDRESS", help="where --flat puts it (0)")
    run.add_argument("-t", "--tty", action="store_true", help="the streams are a terminal for the guest")
    run.bare = True
    run.add_argument(
        "program",
        metavar="PROGRAM",
        help="what to run; -- before it ends the options, and with nothing after it means an --oci image's own command",
    )
    run.add_argument("arguments", nargs=argparse.REMAINDER, metavar="ARG", help="its arguments")


def _fill_pipe(pipe: Parser) -> None:
    _add_machine(pipe)
    pipe.add_argument("--strace", action="store_true", help="show each system call on standard error")
    pipe.add_argument("--pipefail", action="store_true", help="the status of the last program that failed")
    pipe.add_argument(
        "line", nargs="+", action=Line, metavar="'A | B | C'", help="programs and arguments as a shell would split them"
    )


def _add_tree(parser: argparse.ArgumentParser) -> None:
    trees = parser.add_mutually_exclusive_group()
    trees.add_argument(
        "--root", metavar="DIR", help="the guest's file tree, not to be changed meanwhile; its changes stay in memory"
    )
    trees.add_argument("--tar", metavar="FILE", help="the same out of a tar file, plain or compressed")
    trees.add_argument("--oci", metavar="DIR[:NAME]", help="the same out of an image in an OCI image layout")
    parser.add_argument(
        "--mount",
        action="append",
        default=[],
        type=mount,
        metavar="HOST:GUEST[:MODE]",
        help="give the guest a directory: ro (read-only, the default), cow (changes stay in memory) or rw",
    )
    parser.add_argument("--env", action="append", default=[], type=variable, metavar="K=V", help="set a variable")
    parser.add_argument("--user", metavar="USER", help="who programs run as: a name, UID or UID:GID (1000)")
    parser.add_argument("--hostname", default="aiopyvm", metavar="NAME", help="what the guest's machine is called")
    parser.add_argument("--cwd", metavar="DIR", help="the guest's working directory (/)")
    parser.add_argument("--memory", type=size, metavar="SIZE", help="memory limit, such as 256M (the default)")


def _add_machine(parser: argparse.ArgumentParser) -> None:
    _add_tree(parser)
    parser.add_argument(
        "--net",
        action="append",
        default=[],
        type=host_and_port,
        metavar="HOST:PORT",
        help="let the guest connect there by TCP; without it, it reaches itself alone",
    )
    parser.add_argument(
        "--net-udp",
        action="append",
        default=[],
        type=host_and_port,
        metavar="HOST:PORT",
        help="let the guest exchange UDP datagrams with it",
    )
    parser.add_argument(
        "--publish",
        action="append",
        default=[],
        type=published,
        metavar="[ADDRESS:]PORT:GUEST",
        help="listen on the host's PORT (of 127.0.0.1, else of ADDRESS) for the guest's port GUEST",
    )
    parser.add_argument("--diff", metavar="FILE", help="write what it changed in its tree as a tar archive")
    parser.add_argument("--instructions", type=count, metavar="N", help="end it after N instructions")
    parser.add_argument("--timeout", type=seconds, metavar="S", help="end it after S seconds")
    parser.add_argument(
        "--engine", choices=("auto", "native", "python", "evaluator"), default="auto", help="how it executes"
    )
    parser.add_argument(
        "--cpu", choices=("default", *PROCESSORS), default="default", help="the processor that it is to have"
    )
    parser.add_argument("--seed", metavar="SEED", help="fix the guest's random bytes, and use a virtual clock")
    parser.add_argument(
        "--randomize",
        action="store_true",
        help="random addresses of stack, heap and libraries, by the seed if any",
    )
    parser.add_argument(
        "--portable-math", action="store_true", help="sines and logarithms of the x87 that are the same on every host"
    )


def _fill_disasm(disasm: Parser) -> None:
    disasm.add_argument(
        "file", metavar="FILE|HEX", help="an ELF program, a flat binary, - for standard input, or hex digits"
    )
    disasm.add_argument("--address", type=address, default=None, metavar="ADDRESS", help="of the first byte")
    disasm.add_argument("--length", type=count, default=None, metavar="N", help="stop after N bytes")


def _fill_asm(asm: Parser) -> None:
    asm.add_argument("text", metavar="TEXT|-", help="instructions; - reads them from standard input")
    asm.add_argument("--address", type=address, default=0, metavar="ADDRESS", help="of the first byte")
    asm.add_argument("--hex", action="store_true", help="write hex digits instead of bytes")
    asm.add_argument("-o", "--output", metavar="FILE", help="write there instead of standard output")


def _fill_lockstep(lockstep: Parser) -> None:
    lockstep.add_argument(
        "--engines",
        default="python,evaluator",
        metavar="A,B",
        help="what to compare (python,evaluator); also native, and hot: native, everything compiled at once",
    )
    lockstep.add_argument("--against", choices=("hardware",), help="compare the first engine with this processor")
    lockstep.add_argument(
        "--stretch", type=count, metavar="N", help="compare after N instructions (10000; hardware 256)"
    )
    lockstep.add_argument("--instructions", type=count, metavar="N", help="stop after N instructions")
    lockstep.add_argument("--input", metavar="FILE", help="the guest's standard input (none)")
    _add_tree(lockstep)
    lockstep.add_argument("--seed", metavar="SEED", help="of the guest's random bytes")
    lockstep.add_argument("program", metavar="PROGRAM", help="what to run; -- before it ends the options")
    lockstep.add_argument("arguments", nargs=argparse.REMAINDER, metavar="ARG", help="its arguments")


def _fill_cache(cache: Parser) -> None:
    cache.add_argument(
        "action",
        choices=("show", "warm", "clear", "path"),
        default="show",
        nargs="?",
        help="show what is there (the default), build what the first run would build, remove all, print the directory",
    )


# By name: help in one line, description, arguments.
_COMMANDS: Final[dict[str, tuple[str, str, Callable[[Parser], None]]]] = {
    "run": ("run one program", RUN_HELP, _fill_run),
    "pipe": ("run a pipeline of programs", PIPE_HELP, _fill_pipe),
    "disasm": ("show code as Intel assembly", DISASM_HELP, _fill_disasm),
    "asm": ("assemble Intel assembly", ASM_HELP, _fill_asm),
    "lockstep": ("compare two engines on a program, instruction by instruction", LOCKSTEP_HELP, _fill_lockstep),
    "cache": ("the compiled code that is kept on disk", CACHE_HELP, _fill_cache),
}
