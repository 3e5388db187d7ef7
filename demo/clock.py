"""Training time, counted over several calls."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field


@dataclass
class Clock:
    """Counts on from ``elapsed`` seconds of earlier calls."""

    elapsed: float
    end: float
    """Seconds of training in all calls together."""
    until: float = math.inf
    """``time.time()`` at which this call must stop."""
    start: float = field(default_factory=time.time)

    def spent(self) -> float:
        """Seconds trained so far, in this call and before."""
        return self.elapsed + time.time() - self.start

    def is_over(self) -> bool:
        return self.spent() > self.end or time.time() > self.until

    def cosine(self, total: float) -> float:
        """From 1 at the start to 0 after ``total`` seconds."""
        share = min(1.0, self.spent() / total)
        return 0.5 + 0.5 * math.cos(math.pi * share)
