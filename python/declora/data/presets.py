"""Knows tasks by name: where each is, which of its columns are text and label, and how it is scored."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from declora.errors import ConfigError, unknown_name

__all__ = ["PRESETS", "TASKS", "Preset", "Task", "split_name"]

Task = Literal["classification", "causal-lm"]
TASKS: tuple[Task, ...] = get_args(Task)


@dataclass(frozen=True)
class Preset:
    """Describes one well-known task.

    Attributes:
        name: What `data` says: `"sst2"`, or `"sst2=PATH"` for files of one's own.
        hub: Its data set on the Hugging Face hub, `"name"` or `"name:config"`.
        texts: Its text columns: the hub's names first, then others that files use; each one text or a pair.
        labels: Its label column, likewise; none for text to continue.
        classes: Class names by index.
        metric: Headline metric, a name of `declora.metrics`.
        evaluation: Split to evaluate on.
        templates: Text columns that are not there but made: name to a text with `{column}` in it.
    """

    name: str
    hub: str
    texts: tuple[tuple[str, ...], ...]
    classes: tuple[str, ...] = ()
    labels: tuple[str, ...] = ("label",)
    metric: str = "accuracy"
    evaluation: str = "validation"
    templates: Mapping[str, str] = field(default_factory=dict)

    @property
    def task(self) -> Task:
        """Returns which head it needs: classification where there are classes."""
        return "classification" if self.classes else "causal-lm"


_SENTENCE = (("sentence",), ("text",))
_PAIR = ("sentence1", "sentence2")
_NO_YES = ("False", "True")

# GLUE (arXiv 1804.07461), SuperGLUE (arXiv 1905.00537), AG News (arXiv 1509.01626), GSM8K (arXiv 2110.14168). Columns,
# class order and evaluation splits are those of the hub's data sets; the metrics are those of arXiv 2501.15361 where it
# has the task (F1 for MRPC, matched accuracy for MNLI), else the benchmark's own.
PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset("sst2", "nyu-mll/glue:sst2", _SENTENCE, ("negative", "positive")),
        Preset("mrpc", "nyu-mll/glue:mrpc", (_PAIR,), ("not_equivalent", "equivalent"), metric="f1"),
        Preset("cola", "nyu-mll/glue:cola", _SENTENCE, ("unacceptable", "acceptable"), metric="matthews"),
        Preset("qnli", "nyu-mll/glue:qnli", (("question", "sentence"), _PAIR), ("entailment", "not_entailment")),
        Preset("qqp", "nyu-mll/glue:qqp", (("question1", "question2"), _PAIR), ("not_duplicate", "duplicate")),
        Preset(
            "mnli",
            "nyu-mll/glue:mnli",
            (("premise", "hypothesis"), _PAIR),
            ("entailment", "neutral", "contradiction"),
            evaluation="validation_matched",
        ),
        Preset("rte", "nyu-mll/glue:rte", (_PAIR, ("premise", "hypothesis")), ("entailment", "not_entailment")),
        Preset("boolq", "google/boolq", (("question", "passage"),), _NO_YES, ("answer", "label")),
        Preset(
            "wic",
            "aps/super_glue:wic",
            (("text1", "text2"),),
            _NO_YES,
            templates={"text1": "{word}: {sentence1}", "text2": "{sentence2}"},
        ),
        Preset(
            "copa",
            "aps/super_glue:copa",
            (("text1", "text2"),),
            ("choice1", "choice2"),
            templates={
                "text1": "{premise} What was the {question}?",  # {question} is cause or effect
                "text2": "1: {choice1} 2: {choice2}",
            },
        ),
        Preset(
            "ag_news",
            "fancyzhx/ag_news",
            (("text",), ("sentence",)),
            ("World", "Sports", "Business", "Sci/Tech"),
            evaluation="test",
        ),
        Preset(
            "gsm8k",
            "openai/gsm8k:main",
            (("question", "answer"),),
            labels=(),
            metric="perplexity",
            evaluation="test",
        ),
    )
}


def split_name(data: str, field: str = "data") -> tuple[Preset | None, str]:
    """Returns the preset that `data` names, None if it names none, and where the data is.

    `"sst2"` is the preset's own data set on the hub, unless a file or folder here has that name; `"sst2=SOURCE"` is any
    source, read as that task (`"sst2=hub"`: the hub's in any case).

    Raises:
        ConfigError: There is no source after the `=`, or what stands before it is no preset (nor all of it a file).
    """
    name, equals, source = data.partition("=")
    if name in PRESETS:
        preset = PRESETS[name]
        if not equals:
            source = name if Path(name).exists() else "hub"
        if not source:
            raise ConfigError(f"{field}={data!r} names no source. Write {name}=PATH, or {name} for the hub's.")
        return preset, preset.hub if source == "hub" else source
    if equals and re.fullmatch(r"\w+", name) and not Path(data).expanduser().exists():
        raise unknown_name(field, name, PRESETS)
    return None, data
