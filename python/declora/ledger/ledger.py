"""Writes a ledger: the record that a run begins with, and one for each round."""

from collections.abc import Mapping
from typing import Any

from declora.errors import TrainingError
from declora.ledger.digests import canonical, digest, signed_text
from declora.ledger.keys import Keys

__all__ = ["FORMAT", "KEYS", "LEDGER", "Ledger"]

LEDGER = "ledger.jsonl"
"""Name of the file with a line per record."""
KEYS = "ledger.keys"
"""Name of the file with the clients' private keys, which nobody but its owner may read."""
FORMAT = "declora-ledger-1"


class Ledger:
    """The records of a run so far.

    Args:
        keys: The clients'.
        run: Names the run; its messages have it in their headers.
        origin: What the results of the run depend on, in the types of JSON.

    Attributes:
        keys: The clients'.
        lines: Each record as a line, its end included; the first says what run it is, and whose keys count.
        head: The hash of the last record, which with the clients' keys stands for all before it.
    """

    def __init__(self, keys: Keys, *, run: str, origin: Mapping[str, Any]) -> None:
        self.keys = keys
        self.lines: list[bytes] = []
        self._seal({"format": FORMAT, "run": run, "origin": origin, "keys": keys.public})

    def add(self, record: Mapping[str, Any]) -> None:
        """Adds what each client had and sent in a round, signed by each.

        Args:
            record: Of the round: its number, `round`, and a row of each client under `clients` with the digests of the
                message that it sent (none where nobody heard one) and of its adapter after the round.

        Raises:
            TrainingError: Some clients are lost, so that not all can sign.
        """
        number, previous = record["round"], self.head
        if len(record["clients"]) < len(self.keys):
            raise TrainingError(
                f"round {number}: {len(self.keys) - len(record['clients'])} of {len(self.keys)} clients are lost, but "
                "all sign each round of a ledger. Go on from the last checkpoint with all ranks: declora resume."
            )
        entries = []
        for row in record["clients"]:
            entry = {"message": row.get("message_digest"), "adapter": row["adapter_digest"]}
            signature = self.keys.sign(row["client"], signed_text(previous, number, row["client"], entry))
            entries.append({**entry, "signature": signature})
        self._seal({"round": number, "previous": previous, "clients": entries})

    def _seal(self, record: Mapping[str, Any]) -> None:
        self.head = digest(canonical(record))
        self.lines.append(canonical({**record, "hash": self.head}) + b"\n")
