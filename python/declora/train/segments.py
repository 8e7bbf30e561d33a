"""Instruction data as segments: what the model reads, and what it learns to write."""

import itertools
from typing import NamedTuple

import jinja2
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from declora.data import TextData
from declora.data.display import listed
from declora.data.prompts import CHAT, separator, write_prompt
from declora.errors import DataError, ModelError, cut

__all__ = ["Example", "Segment", "write_examples"]

# Some chat templates write today's date into their system message. The results of a seed must not depend on the day, so
# theirs is the day that Llama 3.1's template falls back on. (A macro, since a template gets plain data only.)
_TODAY = """\
{%- macro strftime_now(format) -%}
{{- format | replace("%d", "26") | replace("%b", "Jul") | replace("%B", "July") | replace("%m", "07")
    | replace("%Y", "2024") -}}
{%- endmacro %}"""


Messages = list[dict[str, str]]


class Segment(NamedTuple):
    """A piece of an example's text."""

    text: str
    target: bool
    """Whether the model learns to write it."""


class Example(NamedTuple):
    """One row of instruction data: its segments, the last of which is a target, and that target's plain text."""

    segments: list[Segment]
    answer: str


def write_examples(
    text: TextData, split: Dataset, tokenizer: PreTrainedTokenizerBase, *, template: str | None
) -> list[Example]:
    """Returns every row of `split` as an example.

    A prompt and its completion are two segments; with `template="chat"` they are a turn each of a conversation. The
    targets of a conversation are the assistant's turns (where the prompt is given as messages, too, those of the
    completion), each from the end of what the tokenizer's chat template writes to ask for it (the generation prompt) to
    the end of what it writes after it; what follows the last one is left out.

    Raises:
        ModelError: The tokenizer has no chat template, or one whose generation prompt does not begin the turn.
        DataError: The chat template refuses a conversation; names the row.
    """
    if text.chat:
        chats = _conversations(text, split)
    else:
        pairs = _pairs(text, split, template)
        if template != CHAT:
            return [_pair(template, *pair) for pair in pairs]
        chats = [([_turn("user", prompt), _turn("assistant", completion)], 1) for prompt, completion in pairs]
    if not tokenizer.chat_template:
        raise ModelError(
            f"tokenizer ({type(tokenizer).__name__}) has no chat template to write conversations with. Set "
            "tokenizer.chat_template, use the tokenizer of an instruction-tuned model, or give prompt and completion "
            "columns of texts."
        )
    return [_chat(row, messages, first, tokenizer) for row, (messages, first) in enumerate(chats)]


def _conversations(text: TextData, split: Dataset) -> list[tuple[Messages, int]]:
    """Returns the messages of each row, and the index of the first one that may be learned."""
    begun = split[text.text_columns[0]][:]
    if text.completion_column is None:
        return [(messages, 0) for messages in begun]
    ended = split[text.completion_column][:]
    return [(prompt + completion, len(prompt)) for prompt, completion in zip(begun, ended, strict=True)]


def _pairs(text: TextData, split: Dataset, template: str | None) -> list[tuple[str, str]]:
    """Returns the prompt and completion of each row."""
    prompts = zip(*(split[name][:] for name in text.text_columns), strict=True)
    rows = [dict(zip(text.text_columns, values, strict=True)) for values in prompts]
    completions = split[text.completion_column][:]
    return [
        (write_prompt(template, row, text.text_columns), completion)
        for row, completion in zip(rows, completions, strict=True)
    ]


def _pair(template: str | None, prompt: str, completion: str) -> Example:
    return Example(
        [Segment(prompt + separator(template, prompt, completion), False), Segment(completion, True)], completion
    )


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _chat(row: int, messages: Messages, first: int, tokenizer: PreTrainedTokenizerBase) -> Example:
    turns = [i for i, message in enumerate(messages) if message["role"] == "assistant" and i >= first]
    try:
        whole = _render(tokenizer, messages[: turns[-1] + 1])
        starts = [_render(tokenizer, messages[:i], ask=True) for i in turns]
        alone = [_render(tokenizer, messages[: i + 1]) for i in turns]
    except jinja2.TemplateError as error:
        raise DataError(
            f"The tokenizer's chat template refuses the conversation of row {row} (the first is 0): {cut(error)}. "
            f"Roles: {listed(message['role'] for message in messages)}. Change the row, or tokenizer.chat_template."
        ) from error
    segments, done = [], 0
    for i, start, until in zip(turns, starts, alone, strict=True):
        end = _end_of_turn(whole, len(start), until, messages[i]["content"].strip())
        if not whole.startswith(start) or not done <= len(start) <= end:
            raise ModelError(
                "tokenizer.chat_template renders a conversation and the prompt for its next turn differently (row "
                f"{row}, message {i}), so the assistant's turns cannot be told from the rest. Set "
                "tokenizer.chat_template to one whose generation prompt begins the assistant's turn."
            )
        segments += [Segment(whole[done : len(start)], False), Segment(whole[len(start) : end], True)]
        done = end
    return Example(segments, messages[turns[-1]]["content"])


def _end_of_turn(whole: str, start: int, until: str, content: str) -> int:
    """Returns where the turn ends that begins at `start` of the `whole` text; -1 where it is not found.

    `until` is the conversation up to and with this turn. Where that is no prefix of the whole (some templates drop the
    reasoning of earlier turns), the turn ends with its content and what both renderings write after it.
    """
    if whole.startswith(until):
        return len(until)
    end = whole.find(content, start) + len(content)
    if end < start + len(content):
        return -1
    after = until[until.rfind(content) + len(content) :]
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(after, whole[end:], strict=False))
    return end + sum(1 for _ in same)


def _render(tokenizer: PreTrainedTokenizerBase, messages: Messages, *, ask: bool = False) -> str:
    template = tokenizer.get_chat_template()
    if "strftime_now" in template:
        template = _TODAY + template
    text = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, add_generation_prompt=ask)
    return str(text)
