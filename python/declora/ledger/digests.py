"""Digests, and the one way in which a record is written: what is hashed and signed are these bytes."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

__all__ = ["canonical", "digest", "signed_text"]


def digest(*parts: Any) -> str:
    """Returns `blake2b:` and 64 hex digits of some bytes, one part after the other.

    Args:
        *parts: Bytes, or contiguous arrays, whose bytes count.
    """
    found = hashlib.blake2b(digest_size=32)
    for part in parts:
        found.update(part)
    return f"blake2b:{found.hexdigest()}"


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
