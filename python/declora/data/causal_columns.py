"""Which columns a causal language model reads: plain text, a prompt with its completion, or conversations."""

from collections.abc import Sequence

from declora.data.chats import conversation, holds_chats
from declora.data.prompts import CHAT, template_fields
from declora.data.sources import Part
from declora.errors import ConfigError, DataError

__all__ = ["check_causal", "check_chats", "check_pairs", "known_causal"]

_CHATS = ("messages", "conversations")
_PROMPTS = (
    ("prompt",),
    ("instruction", "input"),
    ("instruction", "context"),
    ("instruction",),
    ("question",),
    ("query",),
)
_COMPLETIONS = ("completion", "response", "output", "answer")


def known_causal(
    names: Sequence[str], chosen: tuple[str, ...], completion: str | None, template: str | None
) -> tuple[tuple[str, ...], str | None]:
    """Returns text columns and completion column by the user's choice, else by well-known names.

    Text columns that the user chose without a completion or a template are plain text. No text columns are returned
    where no name is known.
    """
    texts = chosen or template_fields(template)
    if completion is not None:
        return texts or next((p for p in _PROMPTS if completion not in p and set(p) <= set(names)), ()), completion
    if chosen and template is None:
        return chosen, None
    if not texts and (chat := next((name for name in _CHATS if name in names), None)):
        return (chat,), None
    for prompt in [texts] if texts else _PROMPTS:
        completion = next((name for name in _COMPLETIONS if name in names and name not in prompt), None)
        if completion is not None and (texts or set(prompt) <= set(names)):
            return prompt, completion
    return texts, None


def check_causal(part: Part, texts: tuple[str, ...], completion: str | None, template: str | None) -> bool:
    """Returns whether the text column holds conversations.

    Raises:
        ConfigError: The settings contradict each other.
        DataError: There is a template but nothing to complete it.
    """
    if len({*texts, completion}) < len(texts) + 1:
        raise ConfigError(
            f"text_columns={list(texts)} with completion_column={completion!r} names a column twice. Name each once."
        )
    chat = len(texts) == 1 and texts[0] in part.dataset.column_names and holds_chats(part.dataset, texts[0])
    if chat and (completion or template not in (None, CHAT)):
        setting = f"completion_column={completion!r}" if completion else f"prompt_template={template!r}"
        raise ConfigError(f"{setting} has no use: column {texts[0]!r} holds whole conversations. Leave it out.")
    if (fields := set(template_fields(template))) and fields != set(texts):
        raise ConfigError(
            f"prompt_template={template!r} does not fill in text_columns={list(texts)}. Name the same columns in both, "
            "or leave text_columns out."
        )
    if template is not None and completion is None and not chat:
        raise DataError(
            f"{part.where} has no column to complete prompt_template={template!r} ({', '.join(_COMPLETIONS)}). Columns "
            f"found: {part.dataset.column_names}. Name it with completion_column."
        )
    return chat


def check_pairs(part: Part, prompt: tuple[str, ...]) -> None:
    """Checks that the prompt columns hold texts and that no row lacks all of them (Alpaca's `input` may be empty).

    Raises:
        DataError: Naming the column and the row at fault.
    """
    filled = [False] * part.dataset.num_rows
    for column in prompt:
        for row, text in enumerate(part.dataset[column][:]):
            if text is not None and not isinstance(text, str):
                raise DataError(
                    f"{part.where}: column {column!r} of row {row} (the first is 0) holds {text!r:.60}, not a "
                    "text. Name the text columns with text_columns, or convert it to a string."
                )
            filled[row] |= bool(text and text.strip())
    if not all(filled):
        raise DataError(
            f"{part.where}: the prompt in {list(prompt)} of row {filled.index(False)} (the first is 0) is empty. Fill "
            "it in or drop the row."
        )


def check_chats(part: Part, column: str) -> None:
    """Checks that each row holds a conversation.

    Raises:
        DataError: Naming the row at fault.
    """
    for row, value in enumerate(part.dataset[column][:]):
        try:
            conversation(value)
        except ValueError as error:
            raise DataError(
                f"{part.where}: the conversation in column {column!r} of row {row} (the first is 0) {error}. Give each "
                "row a list of {'role': ..., 'content': ...}."
            ) from error
