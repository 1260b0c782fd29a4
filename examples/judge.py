"""A judge: submissions run against test cases under limits, and one problem that is a conversation."""

from pathlib import Path

import anyio

from aiopyvm import PIPE, VM, Limits, Reason, Result

GUESTS = Path(__file__).parents[1] / "guests" / "bin"
LIMITS = Limits(instructions=2_000_000, memory=16 << 20, output=64 << 10)


def verdict(result: Result, expected: bytes) -> str:
    match result.reason:
        case Reason.INSTRUCTION_LIMIT | Reason.TIME_LIMIT:
            return "time limit exceeded"
        case Reason.OUTPUT_LIMIT:
            return "output limit exceeded"
        case Reason.MEMORY_LIMIT:
            return "memory limit exceeded"
    if not result.ok:
        return f"runtime error ({result.detail})" if result.detail else "runtime error"
    return "accepted" if result.stdout == expected else "wrong answer"


async def batch(submission: str, *args: str, stdin: bytes, expected: bytes) -> None:
    result = await VM(limits=LIMITS).run_elf(GUESTS / submission, *args, stdin=stdin)
    print(f"{submission:10} {verdict(result, expected)}")


async def number_guessing(submission: str, secret: int) -> None:
    """The submission must find `secret` of 1..1000 in at most ten questions."""
    async with VM(limits=LIMITS).open_elf(GUESTS / submission, stdin=PIPE) as process:
        await process.stdin.send(b"1000\n")
        for questions in range(12):
            word, _, number = (await process.stdout.receive_until(b"\n", 100)).partition(b" ")
            if word == b"!":
                right = int(number) == secret and questions <= 10
                print(f"{submission:10} {'accepted' if right else 'wrong answer'} after {questions} questions")
                return
            guess = int(number)
            await process.stdin.send(b"=\n" if guess == secret else b"<\n" if secret < guess else b">\n")


async def main() -> None:
    numbers, ordered = b"3\n1\n2\n", b"1\n2\n3\n"
    await batch("sort", "-n", stdin=numbers, expected=ordered)
    await batch("cat", stdin=numbers, expected=ordered)
    await batch("spin", stdin=numbers, expected=ordered)
    await batch("flood", stdin=numbers, expected=ordered)
    await batch("crash", "divide", stdin=numbers, expected=ordered)
    await number_guessing("guess", 700)


if __name__ == "__main__":
    anyio.run(main)
