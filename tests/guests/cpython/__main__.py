"""The campaign of CPython's own tests: `python -m tests.guests.cpython native|guest|compare MODULE...`.

`native` and `guest` run the modules in a root directory (--root) that has python3 and libpython3.11-testsuite, as root,
and write MODULE.native and MODULE.guest into --reports; `compare` prints what differs and the table of
docs/cpython-tests.md. A test that does not end, or ends its interpreter, has the verdict "lost"; the module goes on
behind it in a new run. On the host it needs root (unshare, chroot); `/proc`, `/dev` and `/tmp` are made for it and gone
afterwards.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path

import anyio

from aiopyvm import VM, AiopyvmError, HostDir, Limits
from tests.guests.cpython.compare import lost_test, show, table, verdicts

INSIDE = "/mnt/inside.py"
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}
LOST_AT_MOST = 12
HOST_SCRIPT = """
set -e; root=$1 reports=$2; shift 2; mount --make-rprivate /
mount -t tmpfs tmpfs $root/dev; mkdir $root/dev/pts $root/dev/shm
for name in null zero full random urandom tty; do touch $root/dev/$name; mount --bind /dev/$name $root/dev/$name; done
mount -t devpts -o newinstance,ptmxmode=666 devpts $root/dev/pts; ln -s pts/ptmx $root/dev/ptmx
ln -s /proc/self/fd $root/dev/fd; ln -s fd/0 $root/dev/stdin; ln -s fd/1 $root/dev/stdout; ln -s fd/2 $root/dev/stderr
mount -t tmpfs tmpfs $root/dev/shm
mount -t proc proc $root/proc; mount -t tmpfs tmpfs $root/tmp; mount --bind $reports $root/mnt
cd $root; exec chroot . "$@"
"""


class Side:
    """Where tests run: `name` is the reports' suffix."""

    name: str

    def __init__(self, root: Path, reports: Path) -> None:
        self.root = root
        self.reports = reports

    async def run(self, argv: list[str]) -> str:
        """Run until it ends or is cancelled; return how it ended and the end of what it said."""
        raise NotImplementedError


class Native(Side):
    """The host itself."""

    name = "native"

    async def run(self, argv: list[str]) -> str:
        """In mounts of its own."""
        where = [str(self.root), str(self.reports)]
        command = ["unshare", "-mpf", "--kill-child", "sh", "-c", HOST_SCRIPT, "sh", *where, *argv]
        done = await anyio.run_process(command, check=False, env=ENVIRONMENT)
        return f"{done.returncode} {done.stderr[-500:].decode(errors='replace')}"


class Guest(Side):
    """A virtual machine."""

    name = "guest"

    async def run(self, argv: list[str]) -> str:
        """In a machine of its own."""
        vm = VM(
            root=HostDir(self.root, "cow"),
            mounts={"/mnt": HostDir(self.reports, "rw")},
            env=ENVIRONMENT,
            user="root",
            limits=Limits(memory=1 << 30, processes=1024),
        )
        try:
            result = await vm.run(*argv)
        except AiopyvmError as error:
            return repr(error)[:2000]
        said = (result.stderr or b"")[-500:].decode(errors="replace")
        return f"{result.returncode} {result.reason} {result.detail[:500]} {said}"


async def run_while_it_tells(side: Side, argv: list[str], report: anyio.Path, timeout: float) -> str:
    """Run until it ends, or has added nothing to `report` for `timeout` seconds; return the last words."""
    words = "nothing told for too long"

    async def run() -> None:
        nonlocal words
        words = await side.run(argv)
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        told, since = -1, anyio.current_time()
        while anyio.current_time() - since < timeout:
            size = (await report.stat()).st_size if await report.exists() else 0
            if size != told:
                told, since = size, anyio.current_time()
            await anyio.sleep(0.5)
        group.cancel_scope.cancel()
    return words


async def run_module(side: Side, module: str, timeout: float) -> None:
    """Write reports/MODULE.SIDE, by as many runs as tests get lost (`LOST_AT_MOST`): each goes on behind the last."""
    whole = ""
    report = anyio.Path(side.reports / f"{module}.{side.name}")
    for _ in range(LOST_AT_MOST):
        await report.unlink(missing_ok=True)
        argv = ["/usr/bin/python3", INSIDE, module, f"/mnt/{report.name}", *verdicts(whole)]
        end = await run_while_it_tells(side, argv, report, timeout)
        part = await report.read_text() if await report.exists() else ""
        lost = lost_test(part)
        whole += part
        if lost is None:
            break
        print(f"{module}: lost {lost or module}: {end}", flush=True)
        whole += json.dumps({"test": lost or module, "verdict": "lost", "s": 0, "text": end}) + "\n"
        if not lost:
            break
    await report.write_text(whole)


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("native", "guest", "compare"))
    parser.add_argument("modules", nargs="+")
    parser.add_argument("--root", type=Path)
    parser.add_argument("--reports", type=Path, required=True)
    parser.add_argument("--timeout", type=float, default=120, help="of one test, in seconds")
    asked = parser.parse_args()
    if asked.what == "compare":
        for module in asked.modules:
            show(asked.reports, module)
        print(table(asked.reports, asked.modules))
        return
    if asked.root is None:
        parser.error("--root is needed")
    shutil.copyfile(Path(__file__).with_name("inside.py"), asked.reports / "inside.py")
    side = Native(asked.root, asked.reports) if asked.what == "native" else Guest(asked.root, asked.reports)
    for module in asked.modules:
        begun = time.monotonic()
        anyio.run(run_module, side, module, asked.timeout)
        print(f"{module}: {time.monotonic() - begun:.1f} s", flush=True)


if __name__ == "__main__":
    main()
