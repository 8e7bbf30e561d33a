"""The user's model during a run: what a run needs of it, and that it is given back as it came."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from declora.model.quantized import REPACKING

__all__ = ["borrowed"]


@contextmanager
def borrowed(model: PreTrainedModel, *, device: torch.device, pad_id: int | None) -> Iterator[None]:
    """Has `model` on `device`, in evaluation mode, and filling short rows with `pad_id` (None: as it does by itself).

    Afterwards its configuration, the modes of its modules and its device are as before; its layers are `Surgery`'s to
    give back.
    """
    with ExitStack() as given_back:
        for module in model.modules():
            given_back.callback(setattr, module, "training", module.training)
            if hasattr(module, REPACKING):
                given_back.callback(setattr, module, REPACKING, getattr(module, REPACKING))
                setattr(module, REPACKING, False)
        for config in _configs(model):
            given_back.callback(_restore, config, dict(vars(config)))
            if pad_id is not None:
                config.pad_token_id = pad_id
        before = model.device
        if before != device:
            given_back.callback(nn.Module.to, model, before)
            nn.Module.to(model, device)
        model.eval()
        yield


def _configs(model: PreTrainedModel) -> list[Any]:
    """Returns every configuration that a module of `model` reads, each once."""
    found: list[Any] = [module.config for module in model.modules() if hasattr(module, "config")]
    found.append(model.config.get_text_config())
    return list({id(config): config for config in found}.values())


def _restore(config: Any, fields: dict[str, Any]) -> None:
    vars(config).clear()
    vars(config).update(fields)
