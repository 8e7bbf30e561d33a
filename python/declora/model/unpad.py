"""Unpadding: the transformer blocks of a model compute the tokens of a batch, without the padding around them.

Real sentences are short and uneven, so most of a padded batch may be padding. Between the first block and the last,
its tokens follow one another instead, and attend to those of their own sequence alone. Embeddings and head see the
padded batch as ever. Hooks and an attention function of transformers' own registry do that, so the model's own code
stays what it is.
"""

import inspect
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from declora import seeds
from declora.model.limits import positions
from declora.model.owners import RowOwners
from declora.model.unpadded import Unpadded, UnpaddedBatch, unpad
from declora.model.unpadded_attention import ATTENTION, UnpaddedMask

__all__ = ["Unpadding", "blocks_of"]

# In a block of BERT, RoBERTa and their kin: what makes its queries, and what follows its attention, which takes the
# result and the block's input.
_QUERY = "attention.self.query"
_AFTER_ATTENTION = "attention.output"
# What configurations call blocks that see no further than a window.
_WINDOWED = "sliding_attention"
_MOST_TRIED = 1024
"""Tokens of the longest trial."""


class Unpadding:
    """The hooks of one model. `RowOwners.unpadded` says where tokens go; where it is None, nothing is changed.

    Args:
        model: With batched layers in place.
        blocks: Its transformer blocks.
        rows: What its batched layers read.
        first_only: Whether the head reads nothing but first tokens: then the last block makes no queries but theirs,
            and computes no others once attention is done.
    """

    def __init__(self, model: PreTrainedModel, blocks: nn.ModuleList, owners: RowOwners, *, first_only: bool) -> None:
        self._blocks = blocks
        self._owners = owners
        self._first_only = first_only
        self._signature = inspect.signature(blocks[0].forward)
        self._causal = any(getattr(module, "is_causal", False) for module in model.modules())
        self._configs = _configs(blocks)
        self._attention = model.config._attn_implementation
        self._mask: UnpaddedMask

    @classmethod
    def of(cls, model: PreTrainedModel, owners: RowOwners) -> "Unpadding | None":
        """Returns the unpadding of `model`, its batched layers bound to one client; None where it does not work.

        Architectures differ in what goes from block to block, so it is measured: unpadded, two sequences must have the
        logits that they have in a padded batch, and those of one must not change with the other.
        """
        blocks = blocks_of(model)
        if blocks is None or not _configs(blocks) or not _attends_to_all(model):
            return None
        like_bert = {_QUERY, _AFTER_ATTENTION} <= dict(blocks[-1].named_modules()).keys()
        for first_only in (True, False) if like_bert else (False,):
            unpadding = cls(model, blocks, owners, first_only=first_only)
            if _holds(unpadding, model, owners):
                return unpadding
        return None

    @property
    def windows(self) -> set[int | None]:
        """What windows the attention of the last pass was asked for."""
        return self._mask.windows

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Has the hooks in the model."""
        with ExitStack() as hooks:
            for block in self._blocks:
                hooks.enter_context(_removed(block.register_forward_pre_hook(self._enter, with_kwargs=True)))
            hooks.enter_context(_removed(self._blocks[-1].register_forward_hook(self._leave)))
            if self._first_only:
                query, after = (self._blocks[-1].get_submodule(name) for name in (_QUERY, _AFTER_ATTENTION))
                hooks.enter_context(_removed(query.register_forward_pre_hook(self._keep_first)))
                hooks.enter_context(_removed(query.register_forward_hook(self._fill)))
                hooks.enter_context(_removed(after.register_forward_pre_hook(self._keep_first)))
            try:
                yield
            finally:
                self._owners.inside = None
                self._attend_by(self._attention)

    @contextmanager
    def inside(self, tokens: Unpadded | None) -> Iterator[None]:
        """Has blocks compute `tokens`, as they did when `tokens` were computed just then; None: their padding, too."""
        before, names = self._owners.inside, [config._attn_implementation for config in self._configs]
        self._owners.inside = tokens
        self._attend_by(self._attention if tokens is None else ATTENTION)
        try:
            yield
        finally:
            self._owners.inside = before
            for config, name in zip(self._configs, names, strict=True):
                config._attn_implementation = name

    def _enter(self, block: nn.Module, args: Any, kwargs: Any) -> Any:
        """Packs what comes into a block; hidden states only at the first, they stay unpadded until the last."""
        unpadded = self._owners.unpadded
        if unpadded is None:
            return None
        bound = self._signature.bind(*args, **kwargs)
        hidden, *others = bound.arguments
        if block is self._blocks[0]:
            self._owners.inside = unpadded.tokens
            bound.arguments[hidden] = unpadded.tokens.gather(bound.arguments[hidden])
            self._mask = UnpaddedMask(unpadded.sequences, causal=self._causal, dtype=bound.arguments[hidden].dtype)
            self._attend_by(ATTENTION)
        for name in others:
            bound.arguments[name] = self._unpadded(unpadded.tokens, bound.arguments[name])
        bound.arguments["attention_mask"] = self._mask
        return bound.args, bound.kwargs

    def _unpadded(self, tokens: Unpadded, value: Any) -> Any:
        """Packs positions, rotary angles and the like, wherever they are; leaves alone what is not of the batch."""
        if isinstance(value, tuple):
            return tuple(self._unpadded(tokens, part) for part in value)
        if isinstance(value, dict):
            return {name: self._unpadded(tokens, part) for name, part in value.items()}
        rows, width = tokens.padded
        if (
            isinstance(value, torch.Tensor)
            and value.dim() > 1
            and value.shape[0] in (1, rows)
            and value.shape[1] == width
        ):
            return tokens.gather(value)
        return value

    def _keep_first(self, module: nn.Module, args: Any) -> Any:
        """Narrows the last block to the first tokens of the sequences, `[1, R, H]`."""
        unpadded = self._owners.unpadded
        if unpadded is None:
            return None
        self._owners.inside = unpadded.firsts
        return tuple(x.index_select(1, unpadded.first) for x in args)

    def _fill(self, query: nn.Module, args: Any, output: torch.Tensor) -> torch.Tensor | None:
        """Puts the queries of first tokens among those of all, which are zero: what they find is not kept."""
        unpadded = self._owners.unpadded
        if unpadded is None:
            return None
        self._owners.inside = unpadded.tokens
        full = output.new_zeros(1, unpadded.tokens.size, output.shape[2])
        return full.index_copy(1, unpadded.first, output)

    def _leave(self, block: nn.Module, args: Any, output: Any) -> Any:
        """Puts the hidden states back where they are in the padded batch."""
        inside = self._owners.inside
        if inside is None:
            return None
        self._owners.inside = None
        self._attend_by(self._attention)
        if isinstance(output, tuple):
            return (inside.scatter(output[0]), *output[1:])
        return inside.scatter(output)

    def _attend_by(self, name: str | None) -> None:
        """Sets the attention function that the blocks use, by its name in transformers' registry."""
        for config in self._configs:
            config._attn_implementation = name


@contextmanager
def _removed(handle: Any) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


def _configs(blocks: nn.ModuleList) -> list[Any]:
    """Returns the configs that the modules of the blocks read, each once: one, in most models."""
    found = {id(module.config): module.config for module in blocks.modules() if hasattr(module, "config")}
    return list(found.values())


def blocks_of(model: PreTrainedModel) -> nn.ModuleList | None:
    """Returns the longest list of equal modules that take an attention mask: the transformer blocks."""
    lists = [m for m in model.modules() if isinstance(m, nn.ModuleList) and len({type(block) for block in m}) == 1]
    lists = [m for m in lists if "attention_mask" in inspect.signature(m[0].forward).parameters]
    return max(lists, key=len, default=None)


def _attends_to_all(model: PreTrainedModel) -> bool:
    """Whether tokens see all others of their sequence, all before them, or those in a window, as hooks can tell."""
    plain = set(getattr(model.config.get_text_config(), "layer_types", None) or ()) <= {"full_attention", _WINDOWED}
    checkpointed = any(getattr(module, "gradient_checkpointing", False) for module in model.modules())
    known = model.config._attn_implementation in ("sdpa", "eager")
    return plain and known and not checkpointed and not model.config.is_encoder_decoder


def _window(model: PreTrainedModel) -> int | None:
    """Returns how many tokens some blocks see at most, None where all blocks see all."""
    config = model.config.get_text_config()
    types = getattr(config, "layer_types", None)
    return None if types and _WINDOWED not in types else getattr(config, "sliding_window", None)


def _holds(unpadding: Unpadding, model: PreTrainedModel, owners: RowOwners) -> bool:
    """Returns whether unpadded sequences have the logits of a padded batch and do not see each other."""
    window, longest, places = _window(model), 9, positions(model)
    if window is not None and window + 3 <= min(_MOST_TRIED, places or _MOST_TRIED):
        longest = max(longest, window + 3)  # some tokens are out of sight
    lengths = np.array([longest, 5, 6])
    vocabulary: Any = model.get_input_embeddings().num_embeddings
    draw = seeds.generator(0, "unpadding check").integers(0, vocabulary, (2, 3, longest))
    inside = torch.from_numpy(np.arange(longest) < lengths[:, None]).to(model.device)
    pad = int(model.config.get_text_config().pad_token_id or 0)
    ids, others = (torch.from_numpy(part).to(model.device).masked_fill(~inside, pad) for part in draw)
    unpadded = unpad(lengths, [np.array([2, 0]), np.array([1])], np.array([3]), width=longest, device=model.device)
    options = {} if model.get_output_embeddings() is None else {"use_cache": False}

    def logits(ids: torch.Tensor, unpadded: UnpaddedBatch | None) -> torch.Tensor:
        """Of each sequence, or one after another of each token that is no padding."""
        with owners.computing(3, unpadded=unpadded):
            found: torch.Tensor = model(input_ids=ids, attention_mask=inside.long(), **options).logits
        return (found[inside] if found.shape[:2] == inside.shape else found).float()

    # Not in inference mode: a 4-bit layer casts its bias in its first pass, for good.
    with torch.no_grad(), unpadding.installed():
        expected = logits(ids, None)
        try:
            found = logits(ids, unpadded)
            changed = logits(torch.cat([others[:2], ids[2:]]), unpadded)
        except (RuntimeError, TypeError, ValueError, LookupError, AttributeError):
            return False  # what goes between its blocks cannot be unpadded
    # As in `train.packing.check_packing`: what does not hold is off by thousandths of the scale and more.
    close = (1e-4 if model.dtype == torch.float32 else 5e-2) * expected.abs().max()
    # The last sequence shares its row with the first; of a decoder it is the last tokens.
    last = slice(-1, None) if len(found) == len(lengths) else slice(-int(lengths[-1]), None)
    if unpadding.windows == {None} and window is not None:
        return False  # the window is in the mask alone
    return bool((found - expected).abs().max() <= close and (changed[last] - found[last]).abs().max() <= close / 10)
