"""On which disk a rank writes: in the run folder of rank 0 where it sees that, else in one of its own."""

import os
from collections.abc import Collection
from pathlib import Path

from declora.cluster import Cluster
from declora.config import SimulationConfig
from declora.errors import ConfigError, RunFolderError, shown
from declora.report import RunFolder
from declora.report.belongings import new_beside
from declora.report.lock import token_of

__all__ = ["agree", "meet"]


def agree(cluster: Cluster, config: SimulationConfig, *, resume: bool) -> None:
    """Makes sure that all ranks were started alike, as far as what they write goes; they call it alike.

    Raises:
        ConfigError: They were not; names what is different where. Or one is lost.
    """
    said = cluster.share({"resume": resume, "checkpoint_every": config.checkpoint_every})
    for rank, theirs in enumerate(said):
        for name, value in said[0].items():
            if theirs[name] != value:
                raise ConfigError(
                    f"{name}: {shown(value)} at rank 0, but {shown(theirs[name])} at rank {rank}. Start all ranks with "
                    "the same command."
                )


def meet(
    cluster: Cluster, config: SimulationConfig, *, resume: bool, folder: RunFolder | None = None
) -> tuple[Path, RunFolder | None]:
    """Finds out where each rank writes, which call it alike.

    That is in rank 0's run folder where `out` of a rank leads to it, as on one machine or a shared disk. Else it is in
    a run folder of its own at that path, which ranks on one disk share.

    Args:
        cluster: The ranks.
        config: The settings of this one.
        resume: Whether the run goes on.
        folder: The run folder of rank 0, at that rank.

    Returns:
        Where this rank writes, and the run folder that it has opened there itself.

    Raises:
        RunFolderError: A rank cannot write anywhere; says which and why.
        ConfigError: One is lost.
    """
    tokens, own, why = cluster.share(None if folder is None else folder.token), folder, ""
    work = _seen(str(config.out), tokens) if own is None else own.work
    if work is None:
        try:
            # One that comes back finds what it wrote before.
            own = RunFolder(str(config.out), overwrite=config.overwrite, resume=resume or cluster.returning)
            own.write_json("config.json", config.describe())  # by which `resume` finds it
            work = own.work
        except RunFolderError as error:
            why = str(error)
    try:
        tokens = cluster.share(None if own is None else own.token)
        work = work or _seen(str(config.out), tokens)  # another rank of this host was first
        said = cluster.share("" if work is not None else why)
        if failed := [f"rank {rank}: {text}" for rank, text in enumerate(said) if text]:
            raise RunFolderError(failed[0])
    except BaseException:
        if own is not None and own is not folder:
            own.close()
        raise
    assert work is not None
    return work, own


def _seen(out: str, tokens: Collection[str | None]) -> Path | None:
    """Returns the run folder at a path, or beside it, that a rank with one of these tokens holds; None of another."""
    place = Path(os.path.realpath(out))
    return next((work for work in (new_beside(place), place) if (token_of(work) or "") in tokens), None)
