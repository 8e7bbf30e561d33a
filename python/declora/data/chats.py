"""Reads conversations: a column of messages, in the one form that chat templates take."""

from collections.abc import Mapping
from typing import Any

import datasets
import pyarrow as pa

from declora.data.display import listed
from declora.errors import shown

__all__ = ["CONVERSATION", "conversation", "holds_chats", "messages_of"]

CONVERSATION = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
"""The arrow type of a column of conversations."""

# The older form of conversations (ShareGPT) writes {"from": "human", "value": ...}.
_ROLES = {"human": "user", "gpt": "assistant"}


def holds_chats(dataset: datasets.Dataset, column: str) -> bool:
    """Returns whether `column` holds lists of messages, judged by its first row."""
    value = dataset[0][column]
    return isinstance(value, list) and all(isinstance(message, Mapping) for message in value)


def conversation(value: Any, completion: Any = None) -> list[dict[str, str]]:
    """Returns one conversation as `[{"role": ..., "content": ...}, ...]`; other keys of a message are not read.

    Args:
        value: The conversation, or where there is a completion its beginning.
        completion: The messages that continue it, of the assistant first.

    Raises:
        ValueError: It is no conversation that an assistant can learn from; the message says what it "is".
    """
    messages = messages_of(value)
    if completion is not None:
        answers = messages_of(completion)
        if answers[0]["role"] != "assistant":
            raise ValueError(f"is continued by a message of the role {shown(answers[0]['role'])}, not 'assistant'")
        messages += answers
    roles = [message["role"] for message in messages]
    if "assistant" not in roles:
        raise ValueError(f"has no message of the role 'assistant' to learn from (roles: {listed(roles)})")
    if roles[0] == "assistant":
        raise ValueError("begins with the assistant, which then answers to nothing")
    return messages


def messages_of(value: Any) -> list[dict[str, str]]:
    """Returns a list of messages, in their one form.

    Raises:
        ValueError: It is none; the message says what it "is".
    """
    if not isinstance(value, list) or not value:
        raise ValueError(f"is {shown(value)}, not a list of messages")
    return [_message(message) for message in value]


def _message(message: Any) -> dict[str, str]:
    if not isinstance(message, Mapping):
        raise ValueError(f"has {shown(message)} in place of a message with role and content")
    role = message.get("role")
    if role is None:
        role = message.get("from")
        role = _ROLES.get(str(role), role)
    content = message.get("content")
    if content is None:
        content = message.get("value")
    if not isinstance(role, str) or not isinstance(content, str):
        raise ValueError(f"has a message with role {shown(role)} and content {shown(content)}: both must be texts")
    return {"role": role, "content": content}
