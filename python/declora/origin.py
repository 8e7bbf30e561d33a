"""What the results of a run depend on: its settings, versions, machine, data and weights, as values to be compared."""

import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import torch

from declora.config import OUTPUT
from declora.data.client_files import names_files
from declora.digests import digest_of
from declora.run import Run

__all__ = ["brief", "describe_origin", "differences", "environment", "keep_groups"]

_PACKAGES = ("declora", "torch", "transformers", "peft", "numpy")
_BINDING = (*_PACKAGES, "device", "processor", "group size", "padding", "blocks")
"""What of the environment changes results. On a CPU its instruction set does, in the last bits; threads do not, but
for compiled blocks."""
_LONGEST = 200
"""Characters of a setting that is kept whole."""
_FREE = OUTPUT | {"compare", "peer_timeout"}
"""Settings that do not change what a round does."""


def environment(run: Run) -> dict[str, str]:
    """Returns what else a result may depend on: versions, machine, threads, and what was chosen for the user."""
    device = run.material.base.device
    return {
        **{name: version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, {torch.get_num_threads()} threads",
        "device": str(device),
        "processor": _processor(device),
        "group size": str(run.group_size),
        "padding": "kept" if run.sharing.unpadding is None else "left out",
        "activations": "kept" if run.sharing.recomputation is None else "computed again",
        "blocks": "as written" if run.sharing.compilation is None else f"compiled, {torch.get_num_threads()} threads",
        "seed": str(run.config.seed),
    }


def describe_origin(run: Run) -> dict[str, dict[str, Any]]:
    """Returns all that the results of a run depend on, in the types of JSON; data and weights by their digests."""
    known = environment(run)
    free = _FREE if run.method.plans_ahead else _FREE | {"rounds"}
    return {
        "environment": {name: known[name] for name in _BINDING},
        "settings": {name: brief(value) for name, value in run.config.describe().items() if name not in free},
        "inputs": {
            _training_data(run): digest_of(run.material.train, run.federation.shards),
            "the evaluation data": digest_of(run.material.evaluation),
            **({} if run.material.public is None else {"the public data": digest_of(run.material.public)}),
            "the model": digest_of(run.material.base.model.state_dict()),
            "the graph": digest_of(*(graph.parts for graph in run.federation.topology.graphs)),
        },
    }


def _training_data(run: Run) -> str:
    """Returns what to call the data that is trained on here."""
    site, apart = run.gathering.site, names_files(run.config.data) and not run.gathering.site.alone
    return f"the training data of clients {site.start} to {site.stop - 1}" if apart else "the training data"


def keep_groups(run: Run, then: Mapping[str, Any]) -> None:
    """Has a run compute as many clients at once as it did `then`: a GPU's free memory, or the ranks, may be others."""
    size = then.get("environment", {}).get("group size")
    if size is not None and run.config.group_size is None:
        run.gathering.group_size = int(size)


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Returns what of its origin a run would no longer have in common with itself, in half sentences."""
    kinds = {
        "environment": "{name} was {then} and is {now}",
        "settings": "{name} was {then} and is {now} in config.json",
        "inputs": "{name} has changed",
    }
    found = []
    for kind, text in kinds.items():
        before, after = then.get(kind, {}), now[kind]
        for name in after:
            if before.get(name) != after[name]:
                found.append(text.format(name=name, then=before.get(name), now=after[name]))
    return found


def brief(value: Any) -> Any:
    """Returns a setting, or, of a long one (a mixing matrix), what a message can show and its digest."""
    text = json.dumps(value)
    return value if len(text) <= _LONGEST else f"{text[:_LONGEST]} ... (digest {digest_of(text)})"


def _processor(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
