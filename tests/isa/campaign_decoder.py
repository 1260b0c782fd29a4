"""Compare the decoder with iced-x86 on many strings: `python -m tests.isa.campaign_decoder --strings N --seed S`.

Half of the strings are random bytes, half are shaped like the table's rows. Prints how many were of which kind; exits
with 1 when one differs without an explanation.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter

from tests.isa.iced import compare
from tests.isa.random_code import patterns, random_bytes, shaped_bytes


def run(strings: int, seed: int, *, code16: bool = False) -> tuple[Counter[tuple[str, str]], dict[str, bytes]]:
    """Compare `strings` strings; return how many had which verdict, and an example of each difference."""
    rng = random.Random(seed)
    rows = patterns()
    counts: Counter[tuple[str, str]] = Counter()
    examples: dict[str, bytes] = {}
    for n in range(strings):
        code = shaped_bytes(rng, rows[n // 2 % len(rows)]) if n & 1 else random_bytes(rng)
        verdict = compare(code, code16=code16)
        counts[verdict.kind, verdict.detail] += 1
        if verdict.kind == "differs":
            examples.setdefault(verdict.detail, code)
    return counts, examples


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--strings", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--code16", action="store_true", help="as in a 16-bit code segment")
    options = parser.parse_args()
    start = time.perf_counter()
    counts, examples = run(options.strings, options.seed, code16=options.code16)
    elapsed = time.perf_counter() - start
    print(f"{options.strings} strings, seed {options.seed}, {elapsed:.0f} s")
    for kind in sorted({kind for kind, _ in counts}):
        print(f"{kind}: {sum(count for (k, _), count in counts.items() if k == kind)}")
        for (k, detail), count in sorted(counts.items(), key=lambda item: -item[1]):
            if k == kind and detail:
                print(f"  {count:8} {detail}" + (f"  e.g. {examples[detail].hex()}" if detail in examples else ""))
    return 1 if examples else 0


if __name__ == "__main__":
    sys.exit(main())
