"""How many requests a server in a guest answers: Debian's Python with asyncio and with socketserver, and a hundred
clients of the host through a granted port.

Beside the host itself (through the root's own ld.so) and qemu-i386, whose servers are processes. Each client sends 64
bytes, waits for as many, and begins again; the clients are a process of their own. Rounds are repeated until none has
been better for a while, as a guest's code becomes fast while it runs: the best one counts, and for us also the best of
the first twelve. `python tests/debian.py` fetches the root.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import anyio

from aiopyvm import VM, HostDir
from bench.debian import others
from bench.table import Row
from tests.debian import debian_root

CLIENTS = Path(__file__).with_name("clients.py")
SERVERS = {
    "asyncio": """
import asyncio, sys
async def answer(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
async def main():
    server = await asyncio.start_server(answer, "127.0.0.1", int(sys.argv[1]), backlog=200)
    print("ready", flush=True)
    await server.serve_forever()
asyncio.run(main())
""",
    "socketserver": """
import socketserver, sys
class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data)
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address, daemon_threads, request_queue_size = True, True, 200
with Server(("127.0.0.1", int(sys.argv[1])), Handler) as server:
    print("ready", flush=True)
    server.serve_forever()
""",
}


def measure(quick: bool) -> list[Row]:
    """Measure each server on everybody who is there."""
    root = debian_root()
    if root is None:
        return [Row("server", "nobody", 0, "round trips/s", "python tests/debian.py fetches Debian's programs")]
    rounds, least, most = (30, 3, 3) if quick else (100, 12, 120)
    rows: list[Row] = []
    for name, script in SERVERS.items():
        with tempfile.TemporaryDirectory() as directory:
            (Path(directory) / "server.py").write_text(script)
            found = anyio.run(_ours, root, directory, rounds, least, most)
            rows.append(Row(name, "aiopyvm, first rounds", max(found[:least]), "round trips/s"))
            ours = max(found)
            rows.append(Row(name, "aiopyvm", ours, "round trips/s", f"of {len(found)} rounds"))
            for who, command in others(root, ["/usr/bin/python3", f"{directory}/server.py"]).items():
                theirs = _theirs(command, rounds, least)
                note = f"aiopyvm answers {ours / theirs:.2f} times as many"
                rows.append(Row(name, who, theirs, "round trips/s", note))
    return rows


async def _ours(root: Path, directory: str, rounds: int, least: int, most: int) -> list[float]:
    """What each round gave: `least` of them, then until as many again were no better by a twentieth."""
    port = _free_port()
    mounts = {"/bench": HostDir(directory, "ro")}
    vm = VM(root=HostDir(root, "cow", steady=True), mounts=mounts, publish={port: port})
    async with vm.open("/usr/bin/python3", "/bench/server.py", str(port)) as server:
        assert server.stdout is not None
        await server.stdout.receive()
        command = _clients(port, rounds)
        found: list[float] = []
        while len(found) < least or (len(found) < most and max(found[-least:]) > 1.05 * max(found[:-least], default=0)):
            found.append(float((await anyio.run_process(command)).stdout))
        server.kill()
    return found


def _theirs(command: list[str], rounds: int, times: int) -> float:
    port = _free_port()
    with subprocess.Popen([*command, str(port)], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        server.stdout.readline()
        try:
            return max(float(subprocess.check_output(_clients(port, rounds))) for _ in range(times))
        finally:
            server.kill()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _clients(port: int, rounds: int) -> list[str]:
    return [sys.executable, os.fspath(CLIENTS), str(port), str(rounds)]
