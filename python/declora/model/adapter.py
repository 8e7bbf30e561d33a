"""One client's adapter as a PEFT adapter."""

import copy
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig
from safetensors import SafetensorError
from safetensors.torch import save_file

from declora.errors import RunFolderError
from declora.model.layout import Layout
from declora.model.ranks import at_rank, beyond

__all__ = ["Adapter"]


@dataclass(frozen=True)
class Adapter:
    """One row of the adapter matrix, in PEFT's form."""

    row: torch.Tensor
    """float32 `[D]`, on the CPU."""
    layout: Layout
    config: LoraConfig

    def at_rank(self, rank: int) -> "Adapter":
        """Returns the adapter of the first `rank` components of each layer, at the same scale: smaller, in PEFT's form.

        Raises:
            ModelError: Layers have ranks of their own.
        """
        kept = ~beyond(self.layout, [rank], self.row.device)[0]
        return Adapter(self.row[kept], self.layout.at_rank(rank), at_rank(self.config, rank))

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Returns the tensors under PEFT's names, as `peft.get_peft_model_state_dict` would."""
        return self.layout.unflatten(self.row)

    def save_pretrained(self, path: str | Path) -> Path:
        """Writes `adapter_config.json` and `adapter_model.safetensors`; `PeftModel.from_pretrained` loads them.

        The files are written beside `path` and moved into place, so a reader finds all or nothing new. They fit the
        base in any precision; merge them only into one in float32 or bfloat16: in 4 bits the sum is rounded again.

        Args:
            path: Folder; made where it does not exist.

        Returns:
            The folder.

        Raises:
            RunFolderError: The folder cannot be written.
        """
        folder = Path(path)
        config = copy.deepcopy(self.config)
        config.inference_mode = True
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".adapter-", dir=folder) as stage:
                save_file(self.state_dict(), f"{stage}/adapter_model.safetensors", metadata={"format": "pt"})
                config.save_pretrained(stage)
                for file in sorted(Path(stage).iterdir()):
                    shutil.move(file, folder / file.name)
        except (OSError, SafetensorError) as error:
            raise RunFolderError(
                f"adapter cannot be saved to {folder}: {error}. Choose a folder that can be written."
            ) from error
        return folder
