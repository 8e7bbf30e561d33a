"""Reads a ledger, and finds the first record in it that is not as it was written."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from declora.errors import cut
from declora.ledger.digests import canonical, digest, signed_text
from declora.ledger.keys import is_signed
from declora.ledger.ledger import FORMAT

__all__ = ["Chain", "read_chain"]

_HEX = 64
_FIRST = {"format": str, "run": str, "origin": dict, "keys": list, "hash": str}
_ROUND = {"round": int, "previous": str, "clients": list, "hash": str}
_ENTRY = {"message", "adapter", "signature"}


@dataclass(frozen=True)
class Chain:
    """What is sound of a ledger.

    Attributes:
        records: The records up to the first that is not, the one that the run begins with among them.
        fault: What is wrong with the next, in a sentence that begins with its number; None where all are sound.
    """

    records: Sequence[Mapping[str, Any]] = field(default=(), repr=False)
    fault: str | None = None

    @property
    def rounds(self) -> int:
        """How many rounds are sound."""
        return max(0, len(self.records) - 1)

    @property
    def clients(self) -> int:
        """How many clients have signed them."""
        return len(self.records[0]["keys"]) if self.records else 0

    @property
    def head(self) -> str:
        """The hash of the last sound record, empty where there is none."""
        return str(self.records[-1]["hash"]) if self.records else ""


class _Broken(Exception):
    """Says what is wrong with a record."""


def read_chain(lines: Sequence[bytes]) -> Chain:
    """Checks the records of a ledger one after the other, up to the first that is not as it was written.

    Each must be the one way in which its values are written, have the hash of the one before it, be signed by every
    client whose key the first record names, and have the hash of its own values.

    Args:
        lines: Of the file, with their ends. They may hold anything.
    """
    records: list[Mapping[str, Any]] = []
    for number, line in enumerate(lines):
        try:
            record = _parsed(line, _ROUND if records else _FIRST)
            if records:
                _check_round(record, number, records[-1]["hash"], records[0]["keys"])
            else:
                _check_first(record)
            if record["hash"] != digest(canonical({name: record[name] for name in record if name != "hash"})):
                raise _Broken("its hash is not that of what it holds")
        except _Broken as broken:
            return Chain(records, f"record {number} ({f'round {number}' if number else 'the first'}): {broken}.")
        records.append(record)
    return Chain(records, None if records else "record 0 (the first): it is missing.")


def _parsed(line: bytes, kinds: Mapping[str, type]) -> dict[str, Any]:
    try:
        record = json.loads(line)
        written = canonical(record) + b"\n"
    except (ValueError, TypeError, RecursionError) as error:
        raise _Broken("it is not JSON") from error
    if not isinstance(record, dict) or {name: type(value) for name, value in record.items()} != kinds:
        raise _Broken(f"it does not have the values {', '.join(kinds)}")
    if line != written:
        raise _Broken("its bytes are not the ones in which a ledger is written")
    return record


def _check_first(record: Mapping[str, Any]) -> None:
    if record["format"] != FORMAT:
        raise _Broken(f"format is {cut(repr(record['format']), 40)}; this declora reads {FORMAT!r}")
    if not record["keys"] or not all(isinstance(key, str) and len(key) == _HEX for key in record["keys"]):
        raise _Broken("keys are not the clients' public keys")


def _check_round(record: Mapping[str, Any], number: int, previous: str, keys: Sequence[str]) -> None:
    if record["round"] != number:
        raise _Broken(f"it is of round {cut(record['round'], 20)}: a record is missing, is there twice or was moved")
    if record["previous"] != previous:
        raise _Broken(f"previous is not the hash of record {number - 1}")
    entries = record["clients"]
    if len(entries) != len(keys):
        raise _Broken(f"it is signed by {len(entries)} clients instead of {len(keys)}")
    for client, (entry, key) in enumerate(zip(entries, keys, strict=True)):
        if not isinstance(entry, dict) or entry.keys() != _ENTRY:
            raise _Broken(f"client {client} does not have the values {', '.join(sorted(_ENTRY))}")
        if not is_signed(key, entry["signature"], signed_text(previous, number, client, entry)):
            raise _Broken(f"client {client} has not signed these digests of its message and its adapter")
