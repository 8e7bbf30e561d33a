"""The state of a run: named arrays with a row for each client of this process, and how many events are finished.

Whatever else a run depends on (the order of the data, dropout, noise, graphs, rounding, the learning rate) is a
function of its settings, its seed and the event. So these arrays and this number are all that it takes to go on.
"""

import hashlib
import secrets
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from declora.errors import RunFolderError

__all__ = ["HEARD", "SHARED", "Array", "Room", "State"]

Array: TypeAlias = NDArray[Any] | torch.Tensor
Room: TypeAlias = dict[str, Array]
"""The arrays of one part of a run by name; what works on them holds the same dictionary."""

_ADAPTER = "adapter"
HEARD = ("memory", "late", "mixer", "detector")
"""Rooms whose arrays have a row for each client whose messages are known here, not only for those that are here."""
SHARED = ("clock",)
"""Rooms whose arrays have no row for each client; of several processes, the first keeps them for all."""
_DIGEST = 16
"""Bytes of a digest."""


class State:
    """What a run is after some events.

    Attributes:
        event: Events that are finished, so the number of the next one.
        run_id: 16 bytes that name the run in its messages, drawn once for all its sites.
        rooms: The arrays by room: `adapter` is P, float32 `[clients, D]`, in a room of its own.
        clients: int64 `[rows]`, whose rows these are; all clients' where this process has them all.
        known: int64, rising: whose messages are known here, these clients' among them; all clients' likewise.
    """

    def __init__(
        self,
        adapter: torch.Tensor,
        *,
        run_id: bytes | None = None,
        clients: NDArray[np.int64] | None = None,
        known: NDArray[np.int64] | None = None,
    ) -> None:
        self.event = 0
        self.clients = np.arange(len(adapter), dtype=np.int64) if clients is None else clients
        self.known = self.clients if known is None else known
        self.run_id = run_id or secrets.token_bytes(16)
        self.rooms: dict[str, Room] = {_ADAPTER: {_ADAPTER: adapter}}

    @property
    def adapter(self) -> torch.Tensor:
        """P, float32 `[clients, D]`: row i is client i's flattened adapter."""
        found = self.rooms[_ADAPTER][_ADAPTER]
        assert isinstance(found, torch.Tensor)
        return found

    def room(self, name: str) -> Room:
        """Returns the arrays of one part of the run, to read and to write; a new room is empty."""
        return self.rooms.setdefault(name, {})

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Returns every array under `ROOM/NAME`, sorted, on the CPU: views where that is where it is."""
        return {name: _on_cpu(array) for name, array in self._named()}

    def rows(self) -> dict[str, NDArray[Any]]:
        """Returns the arrays with a row for each client, as `arrays` does; of each the rows of the clients here."""
        count, first = len(self.clients), int(np.searchsorted(self.known, self.clients[0]))
        return {
            name: _on_cpu(array[first : first + count] if len(array) > count else array)
            for name, array in self._named()
            if self._has_rows(name, array)
        }

    def shared(self) -> dict[str, NDArray[Any]]:
        """Returns all other arrays, as `arrays` does."""
        return {name: _on_cpu(array) for name, array in self._named() if not self._has_rows(name, array)}

    def _named(self) -> list[tuple[str, Array]]:
        found = {f"{room}/{name}": array for room, own in self.rooms.items() for name, array in own.items()}
        return sorted(found.items())

    def _has_rows(self, name: str, array: Array) -> bool:
        room = name.partition("/")[0]
        rows = self.known if room in HEARD else self.clients
        return room not in SHARED and tuple(array.shape[:1]) == rows.shape

    def like(self, arrays: Mapping[str, NDArray[Any]]) -> "State":
        """Returns a state of the same run and event with `arrays` of all clients; tensors are where these are."""
        rooms: dict[str, Room] = {}
        for name, array in arrays.items():
            room, _, key = name.partition("/")
            held = self.rooms[room][key]
            found = torch.from_numpy(array).to(held.device) if isinstance(held, torch.Tensor) else array
            rooms.setdefault(room, {})[key] = found
        adapter = rooms[_ADAPTER][_ADAPTER]
        assert isinstance(adapter, torch.Tensor)
        state = State(adapter, run_id=self.run_id)
        state.event, state.rooms = self.event, rooms
        return state

    def restore(self, event: int, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Takes the place of another state of the same run.

        Args:
            event: Events that were finished.
            arrays: What `arrays` returned then. A room that is empty at the start of a run may hold anything.

        Raises:
            RunFolderError: An array is missing, is unknown, or has another shape or dtype; nothing has changed.
        """
        own = {name: _form(array) for name, array in self._named()}
        filled = {name for name in arrays if self.rooms.get(name.partition("/")[0]) != {}}
        if odd := sorted(own.keys() ^ filled):
            lacks = "lacks" if odd[0] in own else "has, unlike this run,"
            raise RunFolderError(f"the stored state {lacks} {odd[0]!r}, so it is of other settings or another version.")
        for name, (dtype, shape) in own.items():
            then = arrays[name]
            if (then.dtype, then.shape) != (dtype, shape):
                raise RunFolderError(
                    f"{name!r} of the stored state is {then.dtype} {list(then.shape)}, but this run's is {dtype} "
                    f"{list(shape)}: it is of other settings or another version."
                )
        for name, array in arrays.items():
            room, _, key = name.partition("/")
            held = self.rooms[room].get(key)
            if isinstance(held, torch.Tensor):  # others hold views of it
                held.copy_(torch.from_numpy(array))
            else:
                self.rooms[room][key] = array.copy()
        self.event = event

    def row_digests(self) -> NDArray[np.uint8]:
        """Returns a digest of the rows of each client here, uint8 `[clients here, 16]`."""
        arrays = self.rows()
        what = "".join(f"{name}\t{array.dtype.str}\t{array.shape[1:]}\n" for name, array in arrays.items()).encode()
        held = [_bytes_of(array, len(array)) for array in arrays.values() if array.size]
        found = np.empty((len(self.clients), _DIGEST), dtype=np.uint8)
        for row, own in enumerate(found):
            digest = hashlib.blake2b(what, digest_size=_DIGEST)
            for values in held:
                digest.update(values[row].data)
            own[:] = np.frombuffer(digest.digest(), dtype=np.uint8)
        return found

    def digest(self, rows: NDArray[np.uint8] | None = None) -> str:
        """Returns 32 hex digits that two states share iff their events and arrays are equal, bit for bit.

        Args:
            rows: What `row_digests` returns, of all clients in their order; None: all are here.
        """
        found = hashlib.blake2b(str(self.event).encode(), digest_size=_DIGEST)
        found.update((self.row_digests() if rows is None else rows).tobytes())
        for name, array in self.shared().items():
            found.update(f"\n{name}\t{array.dtype.str}\t{array.shape}\n".encode())
            found.update(_bytes_of(array, 1).data if array.size else b"")
        return found.hexdigest()


def _bytes_of(array: NDArray[Any], rows: int) -> NDArray[np.uint8]:
    """Returns what an array holds, uint8 `[rows, n]`."""
    return np.ascontiguousarray(array).reshape(rows, -1).view(np.uint8)


def _form(array: Array) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Returns the dtype that an array has on the CPU, and its shape; its values stay where they are."""
    return _on_cpu(array[:0]).dtype, tuple(array.shape)


def _on_cpu(array: Array) -> NDArray[Any]:
    return array.detach().cpu().numpy() if isinstance(array, torch.Tensor) else array
