"""The clients' keys: Ed25519 (RFC 8032) through the package `cryptography`."""

import importlib.util
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from declora.errors import ConfigError, RunFolderError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["Keys", "check_installed", "is_signed"]

_FORMAT, _VERSION = "declora-ledger-keys", 1


def check_installed(asked: str) -> None:
    """Checks that the library is there.

    Args:
        asked: What needs it, as it begins a sentence: "ledger=True".

    Raises:
        ConfigError: It is not.
    """
    if importlib.util.find_spec("cryptography") is None:
        raise ConfigError(
            f"{asked} needs Ed25519 signatures by cryptography, which is not installed. Run `pip install cryptography` "
            "(or declora's extra: `pip install '.[ledger]'`)."
        )


class Keys:
    """The private key of every client.

    One process holds them all, of several ranks the first, so a signature says which client's entry it is and that
    nobody without the keys has changed it; it says nothing against whoever holds the file of the keys.

    Args:
        private: Of each client.
    """

    def __init__(self, private: "Sequence[Ed25519PrivateKey]") -> None:
        self._private = tuple(private)

    @classmethod
    def draw(cls, clients: int) -> "Keys":
        """Draws a key for each client, from the system's randomness: no seed gives it back."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return cls([Ed25519PrivateKey.generate() for _ in range(clients)])

    @classmethod
    def load(cls, content: bytes, *, field: str) -> "Keys":
        """Reads what `dump` returned.

        Args:
            content: Of the file.
            field: What a message calls the file.

        Raises:
            RunFolderError: It is something else.
        """
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        try:
            stored = json.loads(content)
            if (stored["format"], stored["version"]) != (_FORMAT, _VERSION):
                raise ValueError
            return cls([Ed25519PrivateKey.from_private_bytes(bytes.fromhex(key)) for key in stored["clients"]])
        except (ValueError, KeyError, TypeError, RecursionError):  # the cause would show a key
            raise RunFolderError(f"{field} does not hold the keys of a ledger. Restore it from a copy.") from None

    def dump(self) -> bytes:
        """Returns the content of their file: JSON, each key as the 64 hex digits of its 32 bytes."""
        keys = [key.private_bytes_raw().hex() for key in self._private]
        return (json.dumps({"format": _FORMAT, "version": _VERSION, "clients": keys}, indent=1) + "\n").encode()

    def __len__(self) -> int:
        """How many clients there are."""
        return len(self._private)

    @property
    def public(self) -> list[str]:
        """The public key of each client, 64 hex digits."""
        return [key.public_key().public_bytes_raw().hex() for key in self._private]

    def sign(self, client: int, text: bytes) -> str:
        """Returns a client's signature, 128 hex digits: the same text gives the same one."""
        return self._private[client].sign(text).hex()


def is_signed(public: str, signature: Any, text: bytes) -> bool:
    """Returns whether a signature is that of the text by the holder of a public key; whatever the values are."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(bytes.fromhex(signature), text)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True
