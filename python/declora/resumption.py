"""`resume`: a run that was stopped, or has finished and is to have more rounds, goes on from its last checkpoint."""

import os
from pathlib import Path
from typing import Any

from declora.errors import ConfigError
from declora.report import find_run, place_of
from declora.result import Comparison, SimulationResult
from declora.settings import of_run
from declora.simulation import run_all

__all__ = ["resume"]


def resume(
    path: str | os.PathLike[str], *, rounds: int | None = None, progress: bool | None = None, **objects: Any
) -> SimulationResult | Comparison:
    """Goes on with the run in a folder, from its newest sound checkpoint to its last round.

    On a CPU the result is, bit for bit, that of the run without the interruption. A run that was to replace another
    (`overwrite`) is found beside it. Of a comparison, finished runs are not run again, the one that was stopped goes
    on, and those not begun are run. A finished run is returned as it is, or goes on where more `rounds` are asked for:
    with a schedule over all steps the learning rate goes on along the longer one, which a note says.

    Args:
        path: What `out` named. The run was started with `checkpoint_every`.
        rounds: Rounds of the whole run; as it was started where None.
        progress: As in `simulate`.
        **objects: Settings that were objects (`model`, `data`, `topology`, `callbacks` ...), which a folder cannot
            hold. Callbacks and `report_to` may be others than before, or None.

    Returns:
        What `simulate` would have returned.

    Raises:
        RunFolderError: There is no run, it is going on, none of its checkpoints is sound, or it cannot go on as it
            began: the version of declora, torch or another library, the machine, a setting, the data or the weights
            of the model are other ones now. Each is named.
        DecloraError: As `simulate`.
    """
    folder = find_run(path, unfinished=True)
    config = of_run(path, folder, objects, asked="resume")
    if config.checkpoint_every is None:
        raise ConfigError(
            f"path={os.fspath(path)!r} is a run without checkpoints. Begin it again, with checkpoint_every=10 or so: "
            f"declora simulate --config {folder / 'config.json'} --checkpoint-every 10 --overwrite."
        )
    changes = {"out": str(place_of(Path(path))), "rounds": rounds, "progress": progress}
    return run_all(config.override(**{k: v for k, v in changes.items() if v is not None}), resume=True)
