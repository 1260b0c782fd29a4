"""How many cases of each row were tried against the hardware without a difference: what campaigns with --count add up.

`counts.json`, a row a line: the row, cases. docs/instructions.md shows it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from aiopyvm.isa.spec import table

_FILE = Path(__file__).with_name("counts.json")


def load() -> Counter[str]:
    """Cases by row (`str(row)`)."""
    return Counter(json.loads(_FILE.read_text()) if _FILE.exists() else {})


def add(tried: Mapping[str, int], wrong: Mapping[str, int]) -> None:
    """Add a campaign's cases, but for those of rows that differed; forget rows that are no more."""
    counts = load() + Counter({row: count for row, count in tried.items() if not wrong.get(row)})
    rows = {str(row) for row in table()}
    counts = Counter({row: count for row, count in counts.items() if row in rows})
    _FILE.write_text(json.dumps(counts, indent=0, sort_keys=True) + "\n")
