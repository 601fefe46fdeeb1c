"""Which of the timed blocks are judged: any is as likely as any other, although nobody knows how many there will be."""

from __future__ import annotations

import random

JUDGED_BLOCKS = 3
"""Of a phase, in each process."""


class Reservoir:
    """Reservoir sampling (Vitter 1985, algorithm R): of the blocks seen so far, each is held with the same
    probability."""

    def __init__(self, size: int, drawn: random.Random) -> None:
        self.size, self.drawn = size, drawn
        self.seen = 0

    def place(self) -> int | None:
        """Where the next block is to be held, instead of what was there; None where it is not."""
        found = self.drawn.randrange(self.seen + 1) if self.seen >= self.size else self.seen
        self.seen += 1
        return found if found < self.size else None
