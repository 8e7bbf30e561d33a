"""Finds the columns that a causal language model reads: plain text, a prompt with its completion, or conversations."""

from collections.abc import Sequence

from declora.data.chats import conversation, holds_chats
from declora.data.display import listed
from declora.data.names import CHATS, COMPLETIONS, PROMPTS, columns_of, first_of
from declora.data.parts import Part
from declora.data.prompts import CHAT, template_fields
from declora.errors import ConfigError, DataError, shown

__all__ = ["check_causal", "check_chats", "check_pairs", "known_causal"]


def known_causal(
    names: Sequence[str], chosen: tuple[str, ...], completion: str | None, template: str | None
) -> tuple[tuple[str, ...], str | None]:
    """Returns text columns and completion column by the user's choice, else by well-known names.

    Text columns that the user chose without a completion or a template are plain text. No text columns are returned
    where no name is known.
    """
    texts = chosen or template_fields(template)
    if completion is not None:
        return texts or first_of([name for name in names if name != completion], PROMPTS), completion
    if chosen and template is None:
        return chosen, None
    if not texts and (chat := columns_of(names, CHATS)):
        return chat[:1], None
    for prompt in [texts] if texts else [first_of(names, [known]) for known in PROMPTS]:
        completions = first_of([name for name in names if name not in prompt], [(name,) for name in COMPLETIONS])
        if prompt and completions:
            return prompt, completions[0]
    return texts, None


def check_causal(
    part: Part, texts: tuple[str, ...], completion: str | None, template: str | None, *, named: bool
) -> bool:
    """Returns whether the columns hold lists of messages.

    Args:
        part: Whose columns they are.
        texts: The text columns.
        completion: The completion column.
        template: The user's `prompt_template`.
        named: Whether the user named the completion column.

    Raises:
        ConfigError: The settings contradict each other.
        DataError: There is a template but nothing to complete it, or only one of two columns holds messages.
    """
    if len({*texts, completion}) < len(texts) + 1:
        raise ConfigError(
            f"text_columns={listed(texts)} with completion_column={shown(completion)} names a column twice. Name each "
            "once."
        )
    chat = len(texts) == 1 and _holds_chats(part, texts[0])
    answers = completion is not None and _holds_chats(part, completion)
    if named and chat and not answers:
        raise ConfigError(
            f"completion_column={completion!r} has no use: column {texts[0]!r} holds conversations, and "
            f"{completion!r} no messages to end them. Leave it out, or write it as messages, too."
        )
    if completion is not None and chat != answers:
        with_messages, without = (texts[0], completion) if chat else (completion, texts[0])
        raise DataError(
            f"{part.where}: column {with_messages!r} holds lists of messages, but column {without!r} does not. Write "
            "both as messages, or both as texts."
        )
    if chat and template not in (None, CHAT):
        raise ConfigError(
            f"prompt_template={template!r} has no use: column {texts[0]!r} holds messages, which the tokenizer's chat "
            "template writes. Leave it out."
        )
    if (fields := set(template_fields(template))) and fields != set(texts):
        raise ConfigError(
            f"prompt_template={template!r} does not fill in text_columns={listed(texts)}. Name the same columns in "
            "both, or leave text_columns out."
        )
    if template is not None and completion is None and not chat:
        raise DataError(
            f"{part.where} has no column to complete prompt_template={template!r} ({', '.join(COMPLETIONS)}). Columns "
            f"found: {listed(part.dataset.column_names)}. Name it with completion_column."
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
                    f"{part.where}: column {column!r} of row {row} (the first is 0) holds {shown(text)}, not a "
                    "text. Name the text columns with text_columns, or convert it to a string."
                )
            filled[row] |= bool(text and text.strip())
    if not all(filled):
        raise DataError(
            f"{part.where}: the prompt in {listed(prompt)} of row {filled.index(False)} (the first is 0) is empty. "
            "Fill it in or drop the row."
        )


def check_chats(part: Part, column: str, completion: str | None) -> None:
    """Checks that each row holds a conversation, or a prompt of messages and the messages that continue it.

    Raises:
        DataError: Naming the row at fault.
    """
    columns = [part.dataset[name][:] for name in (column, completion) if name is not None]
    for row, values in enumerate(zip(*columns, strict=True)):
        try:
            conversation(*values)
        except ValueError as error:
            raise DataError(
                f"{part.where}: the conversation in column {column!r} of row {row} (the first is 0) {error}. Give each "
                "row a list of {'role': ..., 'content': ...}."
            ) from error


def _holds_chats(part: Part, column: str) -> bool:
    return column in part.dataset.column_names and holds_chats(part.dataset, column)
