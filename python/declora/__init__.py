"""declora: fine-tune one language model together, with LoRA over a graph and no parameter server.

`declora.simulate(...)` runs a federation in this process and returns adapters that PEFT loads; `declora.resume(...)`
goes on with one that was stopped, `declora.verify(...)` recomputes one, `declora.audit(...)` checks its ledger;
`declora.plan_rounds(...)` chooses rounds and local steps for a budget; `declora.reproduce(...)` runs a table of the
Dec-LoRA paper. Importing declora is quick and does nothing: torch and transformers load on first use.
"""

from importlib import import_module

TYPE_CHECKING = False  # what `typing` calls so, which takes longer to load than all of this
if TYPE_CHECKING:
    from declora.adapters import Adapter
    from declora.api import simulate
    from declora.auditing import Audit, audit
    from declora.callbacks import Callback
    from declora.codec import Codec
    from declora.config import SimulationConfig
    from declora.data import Partitioner
    from declora.errors import (
        CallbackError,
        CodecError,
        ConfigError,
        DataError,
        DecloraError,
        FrameError,
        ModelError,
        RunFolderError,
        TopologyError,
        TrainingError,
    )
    from declora.experiments import MethodComparison, Reproduction, RoundPlan, compare, plan_rounds, reproduce
    from declora.keywords import Settings
    from declora.methods import Part
    from declora.mixer import Mixer
    from declora.result import Comparison, SimulationResult
    from declora.resumption import resume
    from declora.topology import GraphSchedule, Topology
    from declora.verification import Verification, verify

    __version__: str

__all__ = [
    "Adapter",
    "Audit",
    "Callback",
    "CallbackError",
    "Codec",
    "CodecError",
    "Comparison",
    "ConfigError",
    "DataError",
    "DecloraError",
    "FrameError",
    "GraphSchedule",
    "MethodComparison",
    "Mixer",
    "ModelError",
    "Part",
    "Partitioner",
    "Reproduction",
    "RoundPlan",
    "RunFolderError",
    "Settings",
    "SimulationConfig",
    "SimulationResult",
    "Topology",
    "TopologyError",
    "TrainingError",
    "Verification",
    "__version__",
    "audit",
    "compare",
    "plan_rounds",
    "reproduce",
    "resume",
    "simulate",
    "verify",
]

_ROOMS = {
    "Adapter": "declora.adapters",
    "Audit": "declora.auditing",
    "Callback": "declora.callbacks",
    "CallbackError": "declora.errors",
    "Codec": "declora.codec",
    "CodecError": "declora.errors",
    "Comparison": "declora.result",
    "ConfigError": "declora.errors",
    "DataError": "declora.errors",
    "DecloraError": "declora.errors",
    "FrameError": "declora.errors",
    "GraphSchedule": "declora.topology",
    "MethodComparison": "declora.experiments",
    "Mixer": "declora.mixer",
    "ModelError": "declora.errors",
    "Part": "declora.methods",
    "Partitioner": "declora.data",
    "Reproduction": "declora.experiments",
    "RoundPlan": "declora.experiments",
    "RunFolderError": "declora.errors",
    "Settings": "declora.keywords",
    "SimulationConfig": "declora.config",
    "SimulationResult": "declora.result",
    "Topology": "declora.topology",
    "TopologyError": "declora.errors",
    "TrainingError": "declora.errors",
    "Verification": "declora.verification",
    "audit": "declora.auditing",
    "compare": "declora.experiments",
    "plan_rounds": "declora.experiments",
    "reproduce": "declora.experiments",
    "resume": "declora.resumption",
    "simulate": "declora.api",
    "verify": "declora.verification",
}


def __getattr__(name: str) -> object:
    """Loads a room when a name of it is first used."""
    if name == "__version__":
        from importlib.metadata import version

        return version("declora")
    if name not in _ROOMS:
        raise AttributeError(f"module 'declora' has no attribute {name!r}")
    return getattr(import_module(_ROOMS[name]), name)


def __dir__() -> list[str]:
    """Lists the public names."""
    return sorted([*globals(), *_ROOMS])
