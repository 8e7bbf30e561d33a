"""Store: how the state of a run is written, found again and verified; knows nothing of what it means.

A checkpoint is a folder `event-00000020` with the named arrays of a state (`state.safetensors`), what a run has to know
of them (`about.json`) and, written last, the sizes and checksums of both (`manifest.json`). It appears under its name
when all of that is on the disk. Of a run over several ranks, the others have written theirs by then, each a file beside
it (`event-00000020.rank-0001.safetensors`), which the manifest names, too.
"""

from declora.store.checkpoint import Checkpoint
from declora.store.shard import Shard
from declora.store.sound import UnsoundCheckpoint
from declora.store.store import Elsewhere, Store

__all__ = ["Checkpoint", "Elsewhere", "Shard", "Store", "UnsoundCheckpoint"]
