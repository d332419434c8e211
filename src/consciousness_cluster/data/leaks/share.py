"""A share of rows with its interval."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """`hits` of `n`, with the Wilson (1927) 95 % interval (shares, 0 to 1)."""

    hits: int
    n: int

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson 95 % interval; (0, 1) where there is nothing."""
        from scipy.stats import binomtest

        if self.n == 0:
            return 0.0, 1.0
        low, high = binomtest(self.hits, self.n).proportion_ci(method="wilson")
        return float(low), float(high)

    def __str__(self) -> str:
        if self.n == 0:
            return "none"
        low, high = self.interval
        return f"{self.hits} of {self.n} = {self.hits / self.n:.1%} ({low:.1%} to {high:.1%})"
