"""What became of the changes of a room."""

import tomllib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Score"]

EQUIVALENT: dict[str, dict[str, str]] = tomllib.loads((Path(__file__).parent / "equivalent.toml").read_text())
"""By file and change: why it changes nothing that anybody could see."""


@dataclass
class Score:
    """How many changes of a room were killed, lived, or are equivalent; and those that were not killed."""

    number: int = 0
    """Changes in all, tried or not."""
    results: Counter[str] = field(default_factory=Counter)
    lived: list[str] = field(default_factory=list)
    equivalent: list[str] = field(default_factory=list)

    def note(self, file: str, line: int, change: str, *, killed: bool) -> None:
        """Counts a change that was tried."""
        if killed:
            self.results["killed"] += 1
            return
        reason, shown = EQUIVALENT.get(file, {}).get(change), f"`{file}:{line}` {change}"
        self.results["lived" if reason is None else "equivalent"] += 1
        if reason is None:
            self.lived.append(shown)
        else:
            self.equivalent.append(f"{shown}: {reason}")

    def row(self, name: str) -> str:
        """Returns its row of the page's table."""
        killed, lived = self.results["killed"], self.results["lived"]
        counts = [self.number, self.results.total(), killed, lived, self.results["equivalent"]]
        share = f"{100 * killed / (killed + lived):.1f} %" if killed + lived else ""
        return "| " + " | ".join([name, *(f"{count:,}" for count in counts), share]) + " |"
