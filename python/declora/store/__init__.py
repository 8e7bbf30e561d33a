"""Store: how the state of a run is written, found again and verified; knows nothing of what it means.

A checkpoint is a folder `event-00000020` with the named arrays of a state (`state.safetensors`), what a run has to know
of them (`about.json`) and, written last, the sizes and checksums of both (`manifest.json`). It appears under its name
when all of that is on the disk.
"""

from declora.store.checkpoint import Checkpoint, UnsoundCheckpoint
from declora.store.store import Store

__all__ = ["Checkpoint", "Store", "UnsoundCheckpoint"]
