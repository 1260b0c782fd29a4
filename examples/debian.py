"""A whole system: Debian's own programs, a shell in a terminal, and a server that Python talks to.

Usage: python examples/debian.py ROOT, a directory of Debian i386 programs (`python tests/debian.py` fetches one).
"""

from __future__ import annotations

import sys

import anyio

from aiopyvm import PIPE, VM, HostDir

SERVER = """
import socketserver

class Shout(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(self.rfile.readline().upper())

socketserver.TCPServer(("127.0.0.1", 7000), Shout).serve_forever()
"""


async def main(root: str) -> None:
    """Run a script, drive a shell, and ask a server."""
    vm = VM(root=HostDir(root, "cow"), user="root", env={"PS1": "$ "})
    result = await vm.run("bash", "-c", "seq 5 | awk '{ s += $1 } END { print s }'; uname -sm")
    print(result.text, end="")

    async with vm.open("bash", "--norc", tty=True, stdin=PIPE) as shell:
        await shell.expect(b"$ ")
        await shell.send(b"echo $((6 * 7))\n")
        print((await shell.expect(b"$ ")).decode().splitlines()[1])
        await shell.send(b"exit\n")

    async with vm.open("python3", "-c", SERVER) as server:
        async with await server.connect(7000) as stream:
            await stream.send(b"hello\n")
            print((await stream.receive()).decode(), end="")
        server.terminate()


if __name__ == "__main__":
    anyio.run(main, sys.argv[1])
