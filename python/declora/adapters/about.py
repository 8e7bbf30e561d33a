"""What an adapter was trained over, on what, and by which run."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from transformers import PreTrainedTokenizerBase

from declora.config import SimulationConfig
from declora.data import TextData
from declora.model import Storage
from declora.model.sources import is_config_file

__all__ = ["NEW_TOKENS", "About", "Lineage", "Place", "place_of"]

NEW_TOKENS = 64
"""Of an answer, where the run generated none."""
Place = Literal["hub", "folder", "nowhere"]


@dataclass(frozen=True)
class Lineage:
    """What a run's base and data are to its adapters: neither weights nor rows, which are not kept with a result."""

    source: str
    """Hub id or path of the base; empty where there is none."""
    storage: Storage
    """How the base was held."""
    tokenizer: PreTrainedTokenizerBase
    typed: bool
    """Whether the model reads which of two texts a token is of."""
    text: TextData
    """The data without their rows."""


@dataclass(frozen=True)
class About:
    """What an adapter tells of its run."""

    lineage: Lineage
    settings: SimulationConfig
    title: str
    """What it is, in few words: `averaged adapter`."""
    whose: str
    """How it came to be, in whole sentences."""
    facts: Mapping[str, str]
    """What else its card says, by name."""


def place_of(source: str) -> Place:
    """Returns where a base can be loaded from: nowhere where it was an object, or has random weights."""
    if not source or is_config_file(source):
        return "nowhere"
    return "folder" if os.path.exists(os.path.expanduser(source)) else "hub"
