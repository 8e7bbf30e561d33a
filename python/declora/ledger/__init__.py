"""The ledger of a run: a chain of records, one a round, that every client has signed, without any proof of work."""

from declora.ledger.chain import Chain, read_chain
from declora.ledger.digests import client_digests, digest
from declora.ledger.keys import Keys, check_installed
from declora.ledger.ledger import KEYS, LEDGER, Ledger

__all__ = ["KEYS", "LEDGER", "Chain", "Keys", "Ledger", "check_installed", "client_digests", "digest", "read_chain"]
