"""A frozen base in 4 bits, the arrangement of QLoRA (Dettmers et al. 2023, arXiv 2305.14314), by bitsandbytes.

The linear layers of the backbone are stored as NF4 and taken apart for each matrix product; embeddings, norms and the
head keep their dtype, and adapters are float32 as ever. Messages between clients are another matter (`codec`).

On a CPU, too, it is bitsandbytes: one format everywhere. Of the others measured there, on all-MiniLM-L6-v2 against
float32, torchao 0.18 holds 4-bit values in a byte each, optimum-quanto 0.2.7 compiles C++ at its first use, and both
were further off and slower.

Merging an adapter into a 4-bit base is not offered: the sum would be rounded to 4 bits once more (after SST-2 on that
model by an error of 0.56 times the norm of the update). `PeftModel.merge_and_unload` over the same base in float32 or
bfloat16 keeps the update whole.
"""

import copy
import importlib.util
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel

from declora.errors import ConfigError, ModelError, unknown_name
from declora.model.checkpoint import reason

__all__ = [
    "REPACKING",
    "check_readable",
    "check_same",
    "check_trainable",
    "is_quantized",
    "keep_head",
    "quantization_of",
    "quantize",
]

REPACKING = "support_avx512bf16_for_cpu"
"""The attribute of a 4-bit layer that lets it be repacked; switched off for a run.

On CPUs with AVX512-BF16, bitsandbytes (0.49 and 0.50) repacks a layer at its first forward pass without gradients, and
from then on computes it in bfloat16 by a kernel that has no derivative: after an evaluation, training would go on with
the layers below cut off, and without an error.
"""
_FIELDS = set(inspect.signature(BitsAndBytesConfig).parameters) - {"kwargs"}
_QUANT_TYPES = ("nf4", "fp4")
_NO_8BIT = (
    "LLM.int8() picks its outlier columns over the whole batch, so a client's results would depend on the others' data."
)


def quantization_of(load_in_4bit: bool, fields: Any, device: torch.device) -> BitsAndBytesConfig | None:
    """Returns how the base is to be quantized, None where it is not.

    Args:
        load_in_4bit: Whether it is; `fields` alone says so, too.
        fields: A `BitsAndBytesConfig`, taken as it is, or a table of its fields. What a table leaves out is as in
            QLoRA: NF4, scales quantized once more, products in bfloat16 on a GPU (in float16 where it has no such) and
            in float32 on a CPU.
        device: Where the base will be.

    Raises:
        ConfigError: An unknown field or value, or something else than 4 bits.
        ModelError: bitsandbytes is not installed.
    """
    if not isinstance(load_in_4bit, bool):
        raise ConfigError(f"load_in_4bit={load_in_4bit!r} must be true or false.")
    if fields is None and not load_in_4bit:
        return None
    if isinstance(fields, BitsAndBytesConfig):
        wanted = copy.deepcopy(fields)
    elif fields is None or isinstance(fields, Mapping):
        wanted = _from_table(dict(fields or {}), device)
    else:
        raise ConfigError(
            f"quantization_config is a {type(fields).__name__}. Give a transformers.BitsAndBytesConfig or a table of "
            "its fields."
        )
    if wanted.load_in_8bit:
        raise ConfigError(f"quantization_config.load_in_8bit=True: {_NO_8BIT} Use load_in_4bit=True.")
    if not wanted.load_in_4bit:
        raise ConfigError("quantization_config.load_in_4bit=False quantizes nothing. Set it to True, or leave it out.")
    if wanted.bnb_4bit_quant_type not in _QUANT_TYPES:
        raise unknown_name("quantization_config.bnb_4bit_quant_type", wanted.bnb_4bit_quant_type, _QUANT_TYPES)
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError(
            "load_in_4bit: a 4-bit base needs bitsandbytes, which is not installed. Run `pip install bitsandbytes` "
            "(or declora's extra: `pip install '.[quantized]'`)."
        )
    return wanted


def _from_table(table: dict[str, Any], device: torch.device) -> BitsAndBytesConfig:
    # What BitsAndBytesConfig writes of itself, as a run folder's config.json then holds it.
    method = table.pop("quant_method", "bitsandbytes")
    if method != "bitsandbytes":
        raise unknown_name("quantization_config.quant_method", method, ["bitsandbytes"])
    table = {name: value for name, value in table.items() if name not in ("_load_in_4bit", "_load_in_8bit")}
    for name in table:
        if name not in _FIELDS:
            raise unknown_name("quantization_config", name, _FIELDS)
    usual = {
        "load_in_4bit": not table.get("load_in_8bit"),
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": _dtype_of_products(device),
    }
    try:
        return BitsAndBytesConfig(**{**usual, **table})
    except (TypeError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"quantization_config={table!r}: {error}. Its fields are those of transformers.BitsAndBytesConfig."
        ) from error


def _dtype_of_products(device: torch.device) -> str:
    if device.type != "cuda":
        return "float32"
    lacks = torch.cuda.is_available() and torch.cuda.get_device_capability(device) < (8, 0)
    return "float16" if lacks else "bfloat16"


def is_quantized(model: nn.Module) -> bool:
    """Returns whether `model` holds quantized weights already."""
    return bool(getattr(model, "is_quantized", False))


def keep_head(wanted: BitsAndBytesConfig, model: PreTrainedModel, *, new: Sequence[str] = ()) -> BitsAndBytesConfig:
    """Returns `wanted` with everything outside the backbone of `model` left in its dtype, and what is new inside.

    transformers by itself keeps a language model's head, but quantizes classification heads that have a bias (BERT,
    RoBERTa), which are new, and trained.

    Args:
        wanted: Which else is skipped is kept, too.
        model: Of the class to be quantized; its weights may be on the meta device.
        new: Modules that the checkpoint does not give.
    """
    wanted = copy.deepcopy(wanted)
    backbone = model.base_model
    head = [name for name, child in model.named_children() if backbone is not model and child is not backbone]
    wanted.llm_int8_skip_modules = sorted({*(wanted.llm_int8_skip_modules or []), *head, *new})
    return wanted


def quantize(
    model: PreTrainedModel, wanted: BitsAndBytesConfig, device: torch.device, *, new: Sequence[str] = ()
) -> PreTrainedModel:
    """Returns `model` with its linear layers in 4 bits, on `device`; `model` itself is left as it is.

    All other weights are shared with `model` where they are on `device` already; those of its `new` modules keep their
    dtype, too.

    Raises:
        ModelError: transformers cannot build the class of `model` from its own weights.
    """
    build: Any = type(model)  # whose from_pretrained returns two things here
    kind = build.__name__
    try:
        made, report = build.from_pretrained(
            None,
            config=copy.deepcopy(model.config),
            state_dict=model.state_dict(),
            dtype=model.dtype,
            quantization_config=keep_head(wanted, model, new=new),
            device_map={"": device},
            output_loading_info=True,
        )
    except Exception as error:
        raise ModelError(
            f"model={kind} cannot be quantized once it is loaded: {reason(error)} Load it with "
            "quantization_config=BitsAndBytesConfig(...), or give its path."
        ) from error
    if wrong := {what: sorted(names) for what, names in report.items() if names}:
        raise ModelError(
            f"model={kind} was changed after it was loaded, so its quantized twin would differ: {wrong}. Load it with "
            "quantization_config=BitsAndBytesConfig(...), or save it and give its path."
        )
    made.config._name_or_path = model.config._name_or_path
    if model.can_generate():
        made.generation_config = copy.deepcopy(model.generation_config)
    return cast(PreTrainedModel, made)


def check_same(model: PreTrainedModel, wanted: BitsAndBytesConfig) -> None:
    """Raises ModelError where `model` came quantized, and differently from what is asked for."""
    found = model.config.quantization_config
    for field in sorted(name for name in _FIELDS if name.startswith("bnb_4bit")):
        if getattr(found, field, None) != getattr(wanted, field):
            raise ModelError(
                f"quantization_config.{field}={getattr(wanted, field)!r}, but the model is quantized already, with "
                f"{getattr(found, field, None)!r}. Leave quantization_config out, or load the model unquantized."
            )


def check_trainable(model: nn.Module) -> None:
    """Makes sure that gradients pass through the 4-bit layers of `model`.

    Raises:
        ModelError: `model` is quantized to 8 bits, or has been repacked for inference (see `REPACKING`).
    """
    if getattr(model, "is_loaded_in_8bit", False):
        raise ModelError(f"model is loaded in 8 bits: {_NO_8BIT} Load it in 4 bits, or in float32 or bfloat16.")
    for name, module in model.named_modules():
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        if getattr(state, "packing_format_for_cpu", False):
            raise ModelError(
                f"layer {name!r} was repacked by bitsandbytes for inference on this CPU, which gradients cannot pass. "
                "Load the model anew and pass it before it has computed anything."
            )


def check_readable(model: nn.Module) -> None:
    """Makes sure that bitsandbytes takes the 4-bit layers of `model` apart as it put them together.

    On CPUs with AVX-512 it (0.50) misreads some rows that do not end with a block, of 96 values in blocks of 64, say,
    and tells nobody. So a layer of each width is read by rows and as one long row, which does end with a block.
    A layer that was repacked (see `REPACKING`) cannot be read so.

    Raises:
        ModelError: The two differ.
    """
    widths = set()
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        state = getattr(weight, "quant_state", None)
        if weight is None or state is None or state.shape[-1] in widths:
            continue
        from bitsandbytes import functional  # there is a 4-bit layer, so it is installed

        widths.add(state.shape[-1])
        whole = copy.copy(state)
        whole.shape = torch.Size((1, state.shape.numel()))
        by_rows, at_once = (functional.dequantize_4bit(weight.data, how).flatten() for how in (state, whole))
        if not torch.equal(by_rows, at_once):
            raise ModelError(
                f"layer {name!r}: its rows of {state.shape[-1]} values are read wrongly by bitsandbytes on this CPU, "
                f"in blocks of {state.blocksize}. Leave load_in_4bit out, or name such layers in "
                "quantization_config.llm_int8_skip_modules."
            )
