"""Writes prompts: the text columns of a row become the text that a completion continues."""

import string
from collections.abc import Mapping, Sequence

from declora.errors import ConfigError

__all__ = ["CHAT", "separator", "template_fields", "write_prompt"]

CHAT = "chat"
"""The template that stands for the tokenizer's own chat template."""


def template_fields(template: str | None) -> tuple[str, ...]:
    """Returns the columns that a prompt template names, in order, each once.

    Raises:
        ConfigError: It is not a template, or names no column.
    """
    if template is None or template == CHAT:
        return ()
    try:
        parsed = [(name, spec, conversion) for _, name, spec, conversion in string.Formatter().parse(template)]
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"prompt_template={template!r} is no template: {error}. Write columns as {{question}}, braces as {{{{."
        ) from error
    fields = dict.fromkeys(name for name, _, _ in parsed if name is not None)
    if bad := [name for name, spec, conversion in parsed if name is not None and (spec or conversion or not name)]:
        raise ConfigError(f"prompt_template={template!r}: the field {bad[0]!r} is no plain column. Write {{question}}.")
    if not fields:
        raise ConfigError(
            f"prompt_template={template!r} names no column. Write columns as {{question}}, or use 'chat'."
        )
    return tuple(fields)


def write_prompt(template: str | None, row: Mapping[str, str | None], columns: Sequence[str]) -> str:
    """Returns the prompt of one row: the template filled in, else the `columns` that hold something, one a line."""
    if template is None or template == CHAT:
        return "\n".join(text for name in columns if (text := row[name]) and text.strip())
    parts = string.Formatter().parse(template)
    return "".join(literal + ((row[name] or "") if name is not None else "") for literal, name, _, _ in parts)


def separator(template: str | None, prompt: str, completion: str) -> str:
    """Returns what goes between the two: a newline, unless one of them brings white space, or there is a template."""
    if template is not None or prompt[-1:].isspace() or completion[:1].isspace():
        return ""
    return "\n"
