"""Data of a causal language model: which columns are prompt, completion and conversation, and what is refused."""

import json
from pathlib import Path

import datasets
import numpy as np
import pytest

from data_rows import data
from declora.data import load
from declora.data.prompts import separator, template_fields, write_prompt
from declora.errors import ConfigError, DataError

CHAT = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]


def rows(*columns: str) -> datasets.Dataset:
    return data([tuple(f"{name} {i}" for name in columns) for i in range(8)], columns)


def chats(*conversations: object, column: str = "messages") -> datasets.Dataset:
    return datasets.Dataset.from_dict({column: list(conversations)})


@pytest.mark.parametrize(
    ("columns", "texts", "completion"),
    [
        (("prompt", "completion"), ("prompt",), "completion"),
        (("question", "answer"), ("question",), "answer"),
        (("instruction", "output"), ("instruction",), "output"),
        (("instruction", "input", "output", "text"), ("instruction", "input"), "output"),
        (("instruction", "context", "response", "category"), ("instruction", "context"), "response"),
        (("query", "response"), ("query",), "response"),
        (("text", "id"), ("text",), None),
        (("prompt",), ("prompt",), None),
    ],
)
def test_prompt_and_completion_are_found_by_their_usual_names(
    columns: tuple[str, ...], texts: tuple[str, ...], completion: str | None
) -> None:
    loaded = load(rows(*columns))
    assert (loaded.task, loaded.text_columns, loaded.completion_column) == ("causal-lm", texts, completion)
    assert loaded.has_prompts == (completion is not None)


def test_the_users_columns_come_first_and_text_columns_alone_are_plain_text() -> None:
    given = rows("question", "answer", "proof", "text")
    assert load(given, completion_column="proof").completion_column == "proof"
    assert load(given, text_columns="text", completion_column="proof").text_columns == ("text",)
    plain = load(given, text_columns=["question", "answer"])
    assert (plain.text_columns, plain.completion_column) == (("question", "answer"), None)
    filled = load(given, prompt_template="{text}: {question}")
    assert (filled.text_columns, filled.completion_column) == (("text", "question"), "answer")
    assert load(rows("body", "reply"), completion_column="reply").text_columns == ("body",)


def test_a_completion_makes_labelled_data_a_causal_task() -> None:
    given = data([("a", "b", 0), ("c", "d", 1)] * 4, ("text", "completion", "label"))
    assert load(given).task == "classification"
    assert load(given, completion_column="completion").task == "causal-lm"
    assert load(given, prompt_template="{text}").task == "causal-lm"


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        ({"completion_column": "anwser"}, DataError, "no column 'anwser'"),
        ({"text_columns": "answer", "completion_column": "answer"}, ConfigError, "names a column twice"),
        ({"prompt_template": "Q: "}, ConfigError, "names no column"),
        ({"prompt_template": "{question"}, ConfigError, "is no template"),
        ({"prompt_template": "{question!r}"}, ConfigError, "no plain column"),
        ({"prompt_template": "{}"}, ConfigError, "no plain column"),
        ({"prompt_template": "{qestion}"}, DataError, "no column 'qestion'"),
        ({"prompt_template": "{question}", "text_columns": ["answer"]}, ConfigError, "does not fill in"),
        ({"task": "classification", "completion_column": "answer"}, ConfigError, "no use with task='classif"),
        ({"completion_column": "answer", "label_column": "answer"}, ConfigError, "no use with task='classif"),
    ],
)
def test_contradicting_settings_are_refused(settings: dict[str, object], kind: type, message: str) -> None:
    with pytest.raises(kind, match=message):
        load(rows("question", "answer"), **settings)


def test_a_template_without_a_completion_is_an_error_that_lists_the_columns() -> None:
    with pytest.raises(DataError, match=r"to complete prompt_template.*\['text'\].*completion_column"):
        load(rows("text"), prompt_template="{text}")


def test_some_prompt_columns_may_be_empty_but_neither_all_nor_the_completion() -> None:
    columns = ("instruction", "input", "output")
    loaded = load(data([("add", "", "3"), ("say", None, "so"), ("a", "b", "c")] * 4, columns))
    assert loaded.train.num_rows + loaded.evaluation.num_rows == 12
    with pytest.raises(DataError, match=r"prompt in \['instruction', 'input'\] of row 1 .* is empty"):
        load(data([("add", "", "3"), ("", " ", "so")], columns))
    with pytest.raises(DataError, match=r"'output' of row 1 .* is empty"):
        load(data([("add", "", "3"), ("say", "", "")], columns))
    with pytest.raises(DataError, match=r"'input' of row 0 .* holds 3, not a text"):
        load(data([("add", 3, "3"), ("say", 4, "so")], columns))


# --- conversations


@pytest.mark.parametrize("column", ["messages", "conversations"])
def test_conversations_are_found_in_either_form(column: str, tmp_path: Path) -> None:
    sharegpt = [{"from": "human", "value": "2+2?"}, {"from": "gpt", "value": "4"}]
    extra = [{**CHAT[0], "weight": 1}, {**CHAT[1], "weight": 0}]
    for given in (CHAT, sharegpt, extra):
        path = tmp_path / "chats.jsonl"
        path.write_text("".join(json.dumps({column: given, "id": i}) + "\n" for i in range(4)))
        loaded = load(path)
        assert (loaded.task, loaded.text_columns, loaded.chat) == ("causal-lm", (column,), True)
        assert loaded.train[column][0] == CHAT
        assert load(path, text_columns=column).chat


def test_clients_may_write_their_conversations_in_different_forms() -> None:
    sharegpt = [{"from": "human", "value": "1+1?"}, {"from": "gpt", "value": "2"}]
    loaded = load([chats(CHAT, CHAT), chats(sharegpt, sharegpt)], eval_data=chats(CHAT))
    assert [row[-1]["content"] for row in loaded.train["messages"]] == ["4", "4", "2", "2"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (CHAT[:1], "no message of the role 'assistant'"),
        (CHAT[::-1], "begins with the assistant"),
        ([], "not a list of messages"),
        ([CHAT[0], {"role": "assistant", "content": None}], "content None: both must be texts"),
    ],
)
def test_a_conversation_that_teaches_nothing_is_an_error_that_names_the_row(bad: object, message: str) -> None:
    with pytest.raises(DataError, match=rf"'messages' of row 2 \(the first is 0\).*{message}"):
        load(chats(CHAT, CHAT, bad))


def test_completions_and_templates_have_no_use_with_conversations() -> None:
    given = chats(*[CHAT] * 4).add_column("note", ["n"] * 4)
    with pytest.raises(ConfigError, match="completion_column='note' has no use"):
        load(given, text_columns="messages", completion_column="note")
    with pytest.raises(ConfigError, match=r"prompt_template='\{messages\}' has no use"):
        load(given, prompt_template="{messages}")
    assert load(given, prompt_template="chat").chat


# --- prompts


def test_prompts_are_the_filled_template_or_one_column_a_line() -> None:
    row = {"instruction": "Add {these}.", "input": "1 2", "none": None}
    columns = ("instruction", "none", "input")
    assert write_prompt(None, row, columns) == "Add {these}.\n1 2"
    assert write_prompt("Do {instruction} {{now}}{none}", row, columns) == "Do Add {these}. {now}"
    assert template_fields("{b}{a}{b}") == ("b", "a")


def test_a_newline_goes_between_unless_white_space_is_there_or_a_template_rules() -> None:
    assert separator(None, "2+2?", "4") == "\n"
    assert separator(None, "2+2? ", "4") == separator(None, "2+2?", " 4") == separator("{a}", "2+2?", "4") == ""


# --- rows that are left out


def test_kept_rows_stay_with_their_clients() -> None:
    loaded = load([rows("text").select(range(n)) for n in (3, 2)], eval_data=rows("text"))
    kept = loaded.keep(np.array([0, 2, 4]), np.arange(5))
    assert kept.train["text"][:] == ["text 0", "text 2", "text 1"]
    assert kept.shards is not None
    assert [shard.tolist() for shard in kept.shards] == [[0, 1], [2]]
    assert kept.evaluation.num_rows == 5
    with pytest.raises(DataError, match=r"data\[1\] has no row left"):
        loaded.keep(np.array([0, 2]), np.arange(5))
    with pytest.raises(DataError, match="evaluation data has no row left"):
        loaded.keep(np.arange(5), np.arange(0))
