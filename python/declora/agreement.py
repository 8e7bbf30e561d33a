"""What ranks must agree in before they run a federation together, and what cannot be spread over them."""

from dataclasses import replace
from importlib.metadata import version

from declora.config import OUTPUT, SimulationConfig
from declora.digests import digest_of
from declora.errors import ConfigError
from declora.federation import Federation
from declora.methods import Stack
from declora.model import Layout
from declora.prepare import Material
from declora.train.sharing import Sharing

__all__ = ["check_spread", "common_to_all"]


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
    settings = config.describe().items()
    return {
        **{name: value for name, value in settings if name not in OUTPUT | _OWN},
        "version": {name: version(name) for name in ("declora", "torch", "transformers", "peft")},
        "clients' samples": federation.samples.tolist(),
        "the adapters' columns": layout.digest().hex(),
        "the model's weights": digest_of(material.base.model.state_dict()),
        "the evaluation data": _evaluation(material),
        **({} if material.public is None else {"the public data": digest_of(replace(material.public, pad_id=0))}),
        "how the model computes": [sharing.together, sharing.unpadding is not None, sharing.head is not None],
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
    elif federation.faults.stray:
        refused = (
            f"faults={str(federation.faults)!r} {one}, where frames are kept for as long as they may come. Leave "
            "duplicate and reorder out"
        )
    elif federation.attack is not None and federation.attack.equivocates:
        refused = f"attack={str(federation.attack)!r} {one}: it tells each neighbour something else. Use another"
    elif federation.attack is not None and federation.attack.forwards:
        refused = f"attack={str(federation.attack)!r} {one}: liars send messages of others. Leave target out"
    elif federation.attack is not None and federation.attack.keeps_frames and len(set(federation.ranks)) > 1:
        refused = (
            f"attack={str(federation.attack)!r} {one}: with ranks, messages are of unlike lengths. Leave ranks out"
        )
    if refused:
        raise ConfigError(f"{refused}, or start it without torchrun.")


_OWN = frozenset({"data", "eval_data", "public_data", "model", "tokenizer", "device"})
"""Settings that may say the same thing otherwise at each rank: places."""
