"""declora: fine-tune one language model together, with LoRA over a graph and no parameter server.

`declora.simulate(...)` runs a federation in this process and returns adapters that PEFT loads; `declora.reproduce(...)`
runs a table of the Dec-LoRA paper. Importing declora is
quick and does nothing: torch and transformers load on first use.
"""

from importlib import import_module

TYPE_CHECKING = False  # what `typing` calls so, which takes longer to load than all of this
if TYPE_CHECKING:
    from declora.config import SimulationConfig
    from declora.errors import (
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
    from declora.experiments import Reproduction, reproduce
    from declora.methods import Part
    from declora.model.adapter import Adapter
    from declora.result import Comparison, SimulationResult
    from declora.simulation import simulate
    from declora.topology import Topology

    __version__: str

__all__ = [
    "Adapter",
    "CodecError",
    "Comparison",
    "ConfigError",
    "DataError",
    "DecloraError",
    "FrameError",
    "ModelError",
    "Part",
    "Reproduction",
    "RunFolderError",
    "SimulationConfig",
    "SimulationResult",
    "Topology",
    "TopologyError",
    "TrainingError",
    "__version__",
    "reproduce",
    "simulate",
]

_ROOMS = {
    "Adapter": "declora.model.adapter",
    "CodecError": "declora.errors",
    "Comparison": "declora.result",
    "ConfigError": "declora.errors",
    "DataError": "declora.errors",
    "DecloraError": "declora.errors",
    "FrameError": "declora.errors",
    "ModelError": "declora.errors",
    "Part": "declora.methods",
    "Reproduction": "declora.experiments",
    "RunFolderError": "declora.errors",
    "SimulationConfig": "declora.config",
    "SimulationResult": "declora.result",
    "Topology": "declora.topology",
    "TopologyError": "declora.errors",
    "TrainingError": "declora.errors",
    "reproduce": "declora.experiments",
    "simulate": "declora.simulation",
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
