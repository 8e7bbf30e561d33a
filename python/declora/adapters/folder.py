"""The folder of an adapter: what PEFT loads, the tokenizer, and a card; written, and uploaded."""

import copy
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from safetensors import SafetensorError
from safetensors.torch import save_file
from transformers import PreTrainedTokenizerBase

from declora.adapters.about import About, place_of
from declora.adapters.card import model_card
from declora.errors import RunFolderError

__all__ = ["save", "upload", "written_config"]

_WEIGHTS, _CONFIG, _CARD = "adapter_model.safetensors", "adapter_config.json", "README.md"
_SIBLING = "../average"
"""Where, beside the adapter of a client, that of all is in the folder of a run."""


def save(
    tensors: Mapping[str, torch.Tensor],
    config: LoraConfig,
    about: About | None,
    folder: Path,
    *,
    tokenizer_of: str | Path | None = None,
    portable: bool = False,
) -> Path:
    """Writes the folder of an adapter.

    Args:
        tensors: Under PEFT's names.
        config: Of the adapter.
        about: Its run; None: there is nothing but the adapter to write.
        folder: Made where it does not exist.
        tokenizer_of: Another folder, whose tokenizer files are linked.
        portable: Whether a base that is a folder of this machine is left unnamed.

    Raises:
        RunFolderError: It cannot be written.
    """
    written = written_config(config, portable=portable)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".adapter-", dir=folder) as place:
            stage = Path(place)
            save_file(dict(tensors), stage / _WEIGHTS, metadata={"format": "pt"})
            written.save_pretrained(place)
            if about is not None:
                found: str | None
                if tokenizer_of is None:
                    found = "." if _save_tokenizer(about.lineage.tokenizer, stage) else None
                else:
                    found = "." if _link_tokenizer(Path(tokenizer_of), stage) else _SIBLING
                card = model_card(about, written, tensors, tokenizer=found)
                (stage / _CARD).write_text(card, encoding="utf-8", errors="backslashreplace")
            for file in sorted(stage.iterdir()):
                if file.is_dir():  # chat templates of a tokenizer that has several
                    shutil.rmtree(folder / file.name, ignore_errors=True)
                shutil.move(file, folder / file.name)
    except (OSError, SafetensorError) as error:
        raise RunFolderError(
            f"adapter cannot be saved to {folder}: {error}. Choose a folder that can be written."
        ) from error
    return folder


def upload(
    tensors: Mapping[str, torch.Tensor],
    config: LoraConfig,
    about: About,
    repo_id: str,
    *,
    private: bool | None,
    token: bool | str | None,
    **commit: Any,
) -> Any:
    """Makes a repository of the hub where there is none, and uploads an adapter's folder; see `Adapter.push_to_hub`."""
    from huggingface_hub import HfApi  # here, as nobody else needs it

    api = HfApi(token=token)
    repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
    with tempfile.TemporaryDirectory() as stage:
        save(tensors, config, about, Path(stage), portable=True)
        return api.upload_folder(repo_id=repo_id, folder_path=stage, **commit)


def written_config(config: LoraConfig, *, portable: bool = False) -> LoraConfig:
    """Returns what `adapter_config.json` holds: a base that is found from anywhere on this machine, or by its hub id.

    Args:
        config: Of the adapter.
        portable: Whether a base that is a folder of this machine is left unnamed.
    """
    written = copy.deepcopy(config)
    written.inference_mode = True
    base = written.base_model_name_or_path
    if base and place_of(base) != "hub":
        written.base_model_name_or_path = None if portable else os.path.abspath(os.path.expanduser(base))
    return written


def _save_tokenizer(tokenizer: PreTrainedTokenizerBase, stage: Path) -> bool:
    """Writes the tokenizer; of one that has no files, as some of a user's own, nothing, which it returns."""
    core = getattr(tokenizer, "backend_tokenizer", None)
    kept = None if core is None else (core.truncation, core.padding)
    if core is not None:  # else the files would say how the last text happened to be cut
        core.no_truncation()
        core.no_padding()
    try:
        tokenizer.save_pretrained(stage)
    except OSError:
        raise
    except Exception:
        return False
    finally:
        if core is not None and kept is not None:
            _restore(core, *kept)
    return True


def _restore(core: Any, truncation: Mapping[str, Any] | None, padding: Mapping[str, Any] | None) -> None:
    if truncation is not None:
        core.enable_truncation(**truncation)
    if padding is not None:
        core.enable_padding(**padding)


def _link_tokenizer(folder: Path, stage: Path) -> bool:
    """Links all files of an adapter's folder but the adapter's own; returns whether that could be done."""
    try:
        for file in sorted(folder.iterdir()):
            if file.name not in (_WEIGHTS, _CONFIG, _CARD) and not file.name.startswith("."):
                os.link(file, stage / file.name)
    except OSError:
        return False
    return True
