"""The card of an adapter, the README.md of its folder: what it is, and code that loads it."""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import PurePath

from peft import LoraConfig

from declora.adapters.about import NEW_TOKENS, About, Place, place_of
from declora.data.prompts import CHAT
from declora.model.sources import is_config_file
from declora.report.tables import markdown_cell

__all__ = ["base_name", "loading_code", "model_card"]

_CACHED = re.compile(r"models--(.+?)--(.+?)/snapshots/")
"""A path in the cache of the hub."""


def base_name(source: str) -> str:
    """Returns what to call a base: its hub id, or the last part of its path; nothing of this machine."""
    if cached := _CACHED.search(PurePath(source).as_posix() + "/"):
        return f"{cached[1]}/{cached[2]}"
    if not source:
        return "a model that was passed as an object"
    if is_config_file(source):
        return f"{PurePath(source).parent.name or 'an architecture'} with random weights"
    return source if place_of(source) == "hub" else PurePath(source).name or "a local folder"


def model_card(about: About, config: LoraConfig, tensors: Iterable[str], *, tokenizer: str | None) -> str:
    """Returns the card of an adapter; the same for the same run, so it has no date.

    Args:
        about: Its run.
        config: As it is written.
        tensors: Names of what is saved.
        tokenizer: Where the tokenizer is, from the folder of the adapter; None where it could not be saved.
    """
    lineage = about.lineage
    name, text = base_name(lineage.source), lineage.text
    classifies = text.task == "classification"
    head = {
        "base_model": name if "/" in name or place_of(lineage.source) == "hub" else None,
        "library_name": "peft",
        "pipeline_tag": "text-classification" if classifies else "text-generation",
        "tags": ["lora", "declora"],
    }
    facts = {
        "base": name + _kept(about),
        "task": f"to tell {len(text.label_names)} classes apart" if classifies else "to continue text",
        **({"labels": _listed(text.label_names)} if classifies else {}),
        "LoRA": _lora(config, tensors),
        **about.facts,
    }
    parts = [
        "---",
        *(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in head.items() if value is not None),
        "---",
        "",
        f"# {about.title.capitalize()} over {name.rpartition('/')[2]}",
        "",
        about.whose,
        "",
        "| of | what |",
        "|---|---|",
        *(f"| {markdown_cell(of)} | {markdown_cell(what)} |" for of, what in facts.items()),
        "",
        "## Load it",
        "",
        _where_base_is(_place(about, config), name, about),
        "",
        "```python",
        *loading_code(about, config, tokenizer),
        "```",
        "",
        "Made by declora: LoRA over a graph, without a parameter server (Dec-LoRA, arXiv 2501.15361).",
    ]
    return "\n".join(parts) + "\n"


def _kept(about: About) -> str:
    storage = about.lineage.storage
    return f", held in {storage.kind}" if storage.size != storage.plain or storage.kind != "float32" else ""


def _lora(config: LoraConfig, tensors: Iterable[str]) -> str:
    targets = config.target_modules
    adapted = targets if isinstance(targets, str) else _listed(sorted(targets or ()))
    some = " (others by rank_pattern)" if config.rank_pattern else ""
    # PEFT lists the usual names of heads, whether the model has them or not.
    saved = [name for name in tensors if ".lora_" not in name]
    wholes = [module for module in config.modules_to_save or () if any(f".{module}." in name for name in saved)]
    whole = f"; trained whole: {_listed(wholes)}" if wholes else ""
    return f"rank {config.r}{some}, alpha {config.lora_alpha:g}, of {adapted}{whole}"


def _listed(names: Sequence[str]) -> str:
    first = ", ".join(names[:20])
    return first if len(names) <= 20 else f"{first} and {len(names) - 20:,} others"


def _where_base_is(place: Place, name: str, about: About) -> str:
    """Returns what there is to know of the base before it is loaded."""
    classes = ""
    if about.lineage.text.task == "classification":
        classes = " The classes are passed, as PEFT takes their number and names from the base, which may know neither."
    if place == "hub":
        return f"The base comes from the hub, with its own precision.{classes}"
    if place == "folder":
        return (
            f"`adapter_config.json` names the folder of the base (`{name}`) on the machine of the run. Elsewhere write "
            f"there (`base_model_name_or_path`) where it is.{classes}"
        )
    return (
        f"The base was {name}, so that no place of it can be named here. Save it where the result of the run is "
        f"(`result.average.to_peft().unload().save_pretrained(path)`), and give its path.{classes}"
    )


def _place(about: About, config: LoraConfig) -> Place:
    """Returns where the base can be loaded from, as far as `config` names it."""
    return place_of(about.lineage.source) if config.base_model_name_or_path else "nowhere"


def loading_code(about: About, config: LoraConfig, tokenizer: str | None, folder: str = ".") -> list[str]:
    """Returns lines of Python that load an adapter and ask it something; they need PEFT and transformers alone.

    Args:
        about: Its run.
        config: As it is written.
        tokenizer: Where the tokenizer is, from the folder of the adapter; None where it could not be saved.
        folder: What the lines call that folder.
    """
    text = about.lineage.text
    classifies, named = text.task == "classification", _place(about, config) != "nowhere"
    kind = "SequenceClassification" if classifies else "CausalLM"
    given = ", id2label=labels, label2id=numbers" if classifies else ""
    classes = [
        f"labels = {dict(enumerate(text.label_names))!r}",
        "numbers = {name: number for number, name in labels.items()}",
    ] * classifies
    here = "this folder, " if folder == "." else ""
    where = f"folder = {json.dumps(folder, ensure_ascii=False)}  # {here}or its name on the hub"
    if named:
        lines = [
            f"from peft import AutoPeftModelFor{kind}",
            "from transformers import AutoTokenizer",
            "",
            where,
            *classes,
            f"model = AutoPeftModelFor{kind}.from_pretrained(folder{given})",
        ]
    else:
        lines = [
            "from peft import PeftModel",
            f"from transformers import AutoModelFor{kind}, AutoTokenizer",
            "",
            where,
            *classes,
            f'base = AutoModelFor{kind}.from_pretrained("PATH OF THE BASE"{given})',
            "model = PeftModel.from_pretrained(base, folder)",
        ]
    source = {".": "folder", None: '"PATH OF THE TOKENIZER"'}.get(tokenizer, f'folder + "/{tokenizer}"')
    lines.append(f"tokenizer = AutoTokenizer.from_pretrained({source})")
    return [*lines, "", *(_ask_classifier(about) if classifies else _ask_decoder(about))]


def _ask_classifier(about: About) -> list[str]:
    texts = ", ".join(['"A text."', '"Another."'][: len(about.lineage.text.text_columns)])
    types = "" if about.lineage.typed else ", return_token_type_ids=False"
    return [
        f'inputs = tokenizer({texts}, return_tensors="pt"{types})',
        "print(labels[model(**inputs).logits.argmax().item()])",
    ]


def _ask_decoder(about: About) -> list[str]:
    text, template = about.lineage.text, about.settings.prompt_template
    most = about.settings.max_new_tokens or NEW_TOKENS
    if text.chat or template == CHAT:
        asked = [
            'messages = [{"role": "user", "content": "A question."}]',
            "inputs = tokenizer.apply_chat_template(",
            '    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True',
            ")",
        ]
    else:
        columns = text.text_columns
        filled = "".join(f", {name!r}: {'A text.'!r}" for name in columns)[2:]
        prompt = [f"prompt = {template!r}.format(**{{{filled}}})"] if template else ['prompt = "A text.\\n"']
        if not text.has_prompts:
            prompt = ['prompt = "A text"']
        asked = [*prompt, 'inputs = tokenizer(prompt, return_tensors="pt")']
    return [
        *asked,
        'inputs = {name: inputs[name] for name in ("input_ids", "attention_mask")}',
        f"answer = model.generate(**inputs, max_new_tokens={most}, do_sample=False)",
        'print(tokenizer.decode(answer[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))',
    ]
