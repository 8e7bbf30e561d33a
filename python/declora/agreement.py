"""What ranks must agree in before they run a federation together, and what cannot be spread over them."""

import json
from dataclasses import replace
from importlib.metadata import version

from declora.cluster import Cluster
from declora.codec import NoMemory
from declora.config import OUTPUT, SimulationConfig
from declora.digests import digest_of
from declora.errors import ConfigError, shown
from declora.federation import Federation
from declora.methods import Stack
from declora.model import Layout
from declora.prepare import Material
from declora.settings import parse_overrides
from declora.train.sharing import Sharing

__all__ = ["agree", "check_spread", "common_to_all"]


def agree(cluster: Cluster, config: SimulationConfig, *, resume: bool) -> None:
    """Makes sure that all ranks were started to do the same, before anything is loaded; they call it alike.

    Args:
        cluster: The ranks.
        config: The settings of this one, of a comparison those of all its runs.
        resume: Whether there is a part of it, after which it goes on.

    Raises:
        ConfigError: They were not; names what is different where. Or one is lost.
    """
    cluster.calls += 1
    cluster.connect((), patience=config.peer_timeout if cluster.returning else cluster.patience)
    runs = None if config.compare is None else list(parse_overrides(config.compare))  # each compares its own settings
    own = {"resume": resume, **_in_common(config), "checkpoint_every": config.checkpoint_every, "compare": runs}
    said = cluster.share(json.loads(json.dumps(own, sort_keys=True)))
    for rank, theirs in enumerate(said):
        for name in own:
            if theirs.get(name) != said[0].get(name):  # of another version it may be none
                values = f"{shown(said[0].get(name))} at rank 0, but {shown(theirs.get(name))} at rank {rank}"
                raise ConfigError(f"{name}: {values}. Start all ranks with the same command and settings.")


def _in_common(config: SimulationConfig) -> dict[str, object]:
    """Returns the settings that must say the same at all ranks."""
    return {name: value for name, value in config.describe().items() if name not in OUTPUT | _OWN}


def common_to_all(
    config: SimulationConfig,
    federation: Federation,
    layout: Layout,
    material: Material,
    sharing: Sharing,
) -> dict[str, object]:
    """Returns what all ranks of a run must have in common, by name.

    Args:
        config: The settings.
        federation: With each client's share of the data.
        layout: The columns of the adapters.
        material: Data and model.
        sharing: How sequences share the passes of the model.
    """
    return {
        **_in_common(config),
        "version": {name: version(name) for name in ("declora", "torch", "transformers", "peft")},
        "clients' samples": federation.samples.tolist(),
        "the adapters' columns": layout.digest().hex(),
        "the model's weights": digest_of(material.base.model.state_dict()),
        "the evaluation data": _evaluation(material),
        **({} if material.public is None else {"the public data": digest_of(replace(material.public, pad_id=0))}),
        "how the model computes": [
            sharing.together,
            *(way is not None for way in (sharing.unpadding, sharing.head, sharing.compilation)),
        ],
    }


def _evaluation(material: Material) -> str:
    """Returns what the evaluation data must be at all ranks: each client's own, or the same."""
    if material.text.evaluation_shards is not None:
        return "of each client"
    return digest_of(replace(material.evaluation, pad_id=0))  # with what rows are filled is no matter


def check_spread(federation: Federation, method: Stack) -> None:
    """Checks that a run can be spread over the ranks of a cluster.

    Raises:
        ConfigError: Something in it needs all clients in one process; names the setting and the fix.
    """
    one, refused = "needs all clients in one process", ""
    if federation.clients == 1:
        refused = f"method={str(method)!r} has one client. Run it in one process"
    elif federation.attack is not None and federation.attack.equivocates:
        what = fix = ""
        if federation.codec.memory is not NoMemory:
            what, fix = f"codec={federation.codec.name!r}", f"Use codec={federation.codec.plain!r}"
        elif federation.faults.stray and federation.faults.reach:
            what, fix = f"faults={str(federation.faults)!r}", "Set rounds=0 for duplicate and reorder"
        if what:
            liars = "liars have one for each neighbour"
            refused = f"attack={str(federation.attack)!r} {one}: {what} keeps each message, and {liars}. {fix}"
    if refused:
        raise ConfigError(f"{refused}, or start it without torchrun.")


_OWN = frozenset({"data", "eval_data", "public_data", "model", "tokenizer", "device"})
"""Settings that may say the same thing otherwise at each rank: places."""
