"""On which disk a rank writes: in the run folder of rank 0 where it sees that, else in one of its own."""

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from declora.cluster import Cluster
from declora.config import SimulationConfig
from declora.errors import RunFolderError
from declora.report import RunFolder
from declora.report.belongings import new_beside
from declora.report.lock import token_of

__all__ = ["Disk", "meet"]


@dataclass(frozen=True)
class Disk:
    """Where a process writes of a run, or of a comparison."""

    work: Path
    folder: RunFolder | None
    """The run folder there, where this process has opened it itself; None where another rank has."""


def meet(
    cluster: Cluster,
    config: SimulationConfig,
    *,
    resume: bool,
    folder: RunFolder | None = None,
    within: Disk | None = None,
) -> Disk:
    """Finds out where each rank writes, which call it alike.

    That is in rank 0's run folder where `out` of a rank leads to it, as on one machine or a shared disk. Else it is in
    a run folder of its own at that path, which ranks on one disk share.

    Args:
        cluster: The ranks.
        config: The settings of this one.
        resume: Whether the run goes on.
        folder: The run folder of rank 0, at that rank.
        within: Where this rank writes the comparison that the run is of.

    Raises:
        RunFolderError: A rank cannot write anywhere; says which and why.
        ConfigError: One is lost.
    """
    out = Path(str(config.out)) if within is None else within.work / os.path.basename(str(config.out))
    tokens = cluster.share(None if folder is None else folder.token)
    own, why = folder, f"out={str(out)!r} is not there."
    work = _seen(out, tokens) if own is None else own.work
    if work is None and (within is None or within.folder is not None):
        try:
            again = resume or cluster.returning  # one that comes back finds what it wrote before
            if within is None or within.folder is None:
                own = RunFolder(out, overwrite=config.overwrite, resume=again)
            else:
                own = within.folder.inner(out.name, resume=again)
            own.write_json("config.json", config.describe())  # by which `resume` finds it
            work = own.work
        except RunFolderError as error:
            why = str(error)
    try:
        tokens = cluster.share(None if own is None else own.token)
        work = work or _seen(out, tokens)  # another rank of this host was first
        said = cluster.share("" if work is not None else why)
        if failed := [f"rank {rank}: {text}" for rank, text in enumerate(said) if text]:
            raise RunFolderError(failed[0])
    except BaseException:
        if own is not None and own is not folder:
            own.close()
        raise
    assert work is not None
    return Disk(work, own)


def _seen(out: Path, tokens: Collection[str | None]) -> Path | None:
    """Returns the run folder at a path, or beside it, that a rank with one of these tokens holds; None of another."""
    place = Path(os.path.realpath(out))
    return next((work for work in (new_beside(place), place) if (token_of(work) or "") in tokens), None)
