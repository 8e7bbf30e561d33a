"""Lists the names that columns usually have: labels, texts, prompts and what continues them; and those of splits."""

from collections.abc import Iterable, Sequence

__all__ = [
    "ANSWERS",
    "BESIDE",
    "CHATS",
    "COMPLETIONS",
    "EVALUATION_SPLITS",
    "LABELS",
    "LABELS_PERHAPS",
    "MESSAGES",
    "PAIRS",
    "PREFERENCES",
    "PROMPTS",
    "ROW_NAMES",
    "TEXTS",
    "columns_of",
    "first_of",
]

LABELS = ("label", "labels", "target")
"""A column of one of these names is the label."""

LABELS_PERHAPS = (
    "annotation", "categories", "category", "class", "classes", "coarse_label", "emotion", "feeling", "fine_label",
    "gold", "ground_truth", "grade", "hate", "intent", "is_spam", "label_text", "mood", "outcome", "polarity", "rating",
    "relation", "score", "sentiment", "similarity", "spam", "stance", "stars", "tag", "tags", "topic", "toxic",
    "toxicity", "verdict", "y",
)  # fmt: skip
"""Names that speak of a label, but of which declora takes none for one: the user is asked."""

PAIRS = (
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("text1", "text2"),
    ("premise", "hypothesis"),
    ("question", "sentence"),
    ("question", "passage"),
    ("question", "answer"),
)
"""Two texts to classify together, first those of GLUE."""

TEXTS = ("text", "sentence", "content", "question")
"""One text."""

CHATS = ("messages", "conversations")
"""Conversations, as lists of messages."""

MESSAGES = (("role", "content"), ("from", "value"))
"""The columns of rows that are one message each."""

PROMPTS = (
    ("prompt",),
    ("instruction", "input"),
    ("instruction", "context"),
    ("instruction",),
    ("question",),
    ("query",),
)
"""What a completion continues."""

COMPLETIONS = ("completion", "response", "output", "answer")
"""What continues a prompt."""

PREFERENCES = ("chosen", "rejected")
"""Two completions, of which one is to be preferred: not what declora trains."""

BESIDE = (
    "article", "choices", "context", "document", "history", "hypothesis", "input", "instruction", "options",
    "paragraph", "passage", "premise", "prompt", "question", "sentence2", "system", "system_prompt", "text2",
    "translation",
)  # fmt: skip
"""Names of columns that belong with the text beside them: who reads that text alone reads half of it."""

ANSWERS = (*COMPLETIONS, "answers", "summary")
"""Names of columns that continue the text beside them, whether as texts or as lists of such."""

ROW_NAMES = ("", "guid", "id", "idx", "index", "uid", "unnamed: 0", "uuid", "__index_level_0__")
"""Names of columns that number or name the rows."""

EVALUATION_SPLITS = ("validation", "valid", "val", "dev", "eval", "evaluation", "test")
"""Names of splits to evaluate on, the first that is there before the others."""


def first_of(names: Sequence[str], known: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """Returns the columns of the first of the `known` names that are all there, in any letter case; none: ()."""
    for wanted in known:
        found = [columns_of(names, [name]) for name in wanted]
        if all(found):
            return tuple(columns[0] for columns in found)
    return ()


def columns_of(names: Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    """Returns the columns whose names are among the `known`, in any letter case, exact names first."""
    folded = {name.casefold() for name in known}
    return tuple(sorted((name for name in names if name.casefold() in folded), key=lambda name: name not in known))
