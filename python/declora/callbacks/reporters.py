"""Names what `report_to` may name, and sees that it is installed."""

import importlib.util
from collections.abc import Iterable

from declora.errors import ConfigError

__all__ = ["REPORTERS", "check_reporters"]

REPORTERS = {"mlflow": "mlflow", "tensorboard": "tensorboard", "trackio": "trackio", "wandb": "wandb"}
"""By name, the package that it needs, as pip calls it."""


def check_reporters(names: Iterable[str]) -> None:
    """Checks that the packages of what `report_to` names are installed; loads none of them.

    Raises:
        ConfigError: One is not.
    """
    for name in names:
        spec = importlib.util.find_spec(name)
        # A folder that happens to be called so, as the one in which wandb keeps its runs, has no origin.
        if spec is None or spec.origin is None:
            raise ConfigError(f"report_to={name!r} needs the package {REPORTERS[name]}: pip install {REPORTERS[name]}.")
