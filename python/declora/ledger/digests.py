"""Digests, and the one way in which a record is written: what is hashed and signed are these bytes."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["canonical", "client_digests", "digest", "signed_text"]


def digest(*parts: Any) -> str:
    """Returns `blake2b:` and 64 hex digits of some bytes, one part after the other.

    Args:
        *parts: Bytes, or contiguous arrays, whose bytes count.
    """
    found = hashlib.blake2b(digest_size=32)
    for part in parts:
        found.update(part)
    return f"blake2b:{found.hexdigest()}"


def client_digests(messages: Sequence[str | None] | None, rows: NDArray[np.float32]) -> list[dict[str, str | None]]:
    """Returns, by client, what a ledger holds of a round.

    Args:
        messages: Digest of the message that each client sent; None where nobody heard one, or nobody talks at all.
        rows: Its adapter after the round, `[clients, D]`.
    """
    sent = messages or [None] * len(rows)
    return [{"message_digest": told, "adapter_digest": digest(row)} for told, row in zip(sent, rows, strict=True)]


def canonical(record: Mapping[str, Any]) -> bytes:
    """Returns a record as JSON with sorted keys, no spaces and ASCII alone."""
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.encode("ascii")


def signed_text(previous: str, number: int, client: int, entry: Mapping[str, Any]) -> bytes:
    """Returns what a client signs of a round.

    Args:
        previous: The hash of the record before.
        number: The round, from 1.
        client: Who signs.
        entry: Its digests: `message` and `adapter`.
    """
    own = {"adapter": entry["adapter"], "client": client, "message": entry["message"]}
    return b"declora-ledger\n" + canonical({**own, "previous": previous, "round": number})
