"""A tool for an automated caller: programs over a dict of files, a budget for every call, files kept between calls."""

from pathlib import Path

import anyio

from aiopyvm import VM, Limits

GUESTS = Path(__file__).parents[1] / "guests" / "bin"
PROGRAMS = ("cat", "grep", "sha256", "sort", "spin", "wc")


class Toolbox:
    """A machine with a few programs and the caller's files; each call is bounded and answers with text."""

    def __init__(self, files: dict[str, bytes]) -> None:
        programs = {name: (GUESTS / name).read_bytes() for name in PROGRAMS}
        self.vm = VM(root={"bin": programs, "data": files}, cwd="/data", env={"PATH": "/bin"})

    async def call(self, *argv: str, stdin: bytes = b"", budget: int = 3_000_000) -> str:
        result = await self.vm.run(*argv, stdin=stdin, limits=Limits(instructions=budget, output=10_000))
        if result.ok:
            return result.text
        return f"{result.text}[{result.reason.name}, status {result.returncode}]\n"

    async def save(self, name: str, data: bytes) -> None:
        await self.vm.path(f"/data/{name}").write_bytes(data)


async def main() -> None:
    tools = Toolbox({"names.txt": b"mallory\nalice\nbob\n", "secret.txt": b"the answer is 42\n"})
    print(await tools.call("cat", "names.txt"), end="")
    listing = await tools.call("cat", "names.txt", "secret.txt")
    print(await tools.call("grep", "answer", stdin=listing.encode()), end="")
    await tools.save("sorted.txt", (await tools.call("sort", stdin=b"b\na\n")).encode())
    print(await tools.call("cat", "sorted.txt"), end="")
    print(await tools.call("spin"), end="")
    print(await tools.call("cat", "/etc/passwd"), end="")


if __name__ == "__main__":
    anyio.run(main)
