"""Prompt and completion as lists of messages: one conversation, of which the completion's turns are learned."""

from typing import Any

import datasets
import pytest

from declora.data import load
from declora.errors import ConfigError, DataError
from declora.train.causal import read_corpus
from declora.train.segments import write_examples
from test_causal import CHAT_TEMPLATE, conversation, inputs, targets
from tiny import tiny_gpt2

ASK, SAY = conversation("w1 w2"), [{"role": "assistant", "content": "w3"}]
LONG = conversation("w1 w2", "w3", "w4", "w5 w6", "w7", "w8")


@pytest.fixture
def chatty(tokenizer):
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def pair(prompt: Any, completion: Any) -> datasets.Dataset:
    return datasets.Dataset.from_dict({"prompt": [prompt] * 4, "completion": [completion] * 4})


def corpus(data, tokenizer):
    return read_corpus(load(data, eval_data=data), tiny_gpt2(), tokenizer, max_length=64)


@pytest.mark.parametrize("cut", [1, 3, 5])
def test_a_pair_is_the_whole_conversation_with_the_turns_of_its_completion_as_targets(chatty, cut):
    whole = corpus(datasets.Dataset.from_dict({"messages": [LONG] * 4}), chatty).train
    tokens = corpus(pair(LONG[:cut], LONG[cut:]), chatty).train
    assert inputs(tokens, 0, chatty) == inputs(whole, 0, chatty)
    assert targets(whole, 0, chatty) == "w3 [SEP] w5 w6 [SEP] w8 [SEP]"
    learned = ["w3 [SEP]", "w5 w6 [SEP]", "w8 [SEP]"]
    assert targets(tokens, 0, chatty) == " ".join(learned[cut // 2 :])


def test_the_columns_are_found_and_kept_as_messages(chatty):
    loaded = load(pair(ASK, SAY))
    assert (loaded.task, loaded.text_columns, loaded.completion_column) == ("causal-lm", ("prompt",), "completion")
    assert (loaded.chat, loaded.has_prompts) == (True, True)
    assert (loaded.train[0]["prompt"], loaded.train[0]["completion"]) == (ASK, SAY)
    sharegpt = [{"from": "human", "value": "w1 w2"}], [{"from": "gpt", "value": "w3"}]
    assert load(pair(*sharegpt)).train[0] == loaded.train[0]


def test_the_answer_is_the_last_turn_of_the_completion(chatty):
    loaded = load(pair(ASK, SAY))
    assert write_examples(loaded, loaded.train, chatty, template=None)[0].answer == "w3"


def test_pairs_of_messages_are_the_pairs_of_texts_that_a_chat_template_writes(chatty):
    texts = pair("w1 w2", "w3")
    text = read_corpus(
        load(texts, eval_data=texts, prompt_template="chat"), tiny_gpt2(), chatty, max_length=64, prompt_template="chat"
    )
    messages = corpus(pair(ASK, SAY), chatty)
    assert messages.train.ids.tolist() == text.train.ids.tolist()
    assert messages.train.scored.tolist() == text.train.scored.tolist()


@pytest.mark.parametrize(
    ("prompt", "completion", "settings", "kind", "message"),
    [
        (ASK, "w3", {}, DataError, "column 'prompt' holds lists of messages, but column 'completion' does not"),
        ("w1", SAY, {}, DataError, "column 'completion' holds lists of messages, but column 'prompt' does not"),
        (ASK, "w3", {"completion_column": "completion"}, ConfigError, "completion_column='completion' has no use"),
        (ASK, SAY, {"prompt_template": "{prompt}"}, ConfigError, r"prompt_template='\{prompt\}' has no use"),
        (ASK, ASK, {}, DataError, "row 0 .* is continued by a message of the role 'user', not 'assistant'"),
        (SAY, SAY, {}, DataError, "row 0 .* begins with the assistant"),
        (ASK, [], {}, DataError, r"row 0 .* is \[\], not a list of messages"),
        (ASK, [{"role": "assistant", "content": None}], {}, DataError, "both must be texts"),
    ],
)
def test_pairs_that_are_no_conversation_are_errors_in_terms_of_what_was_given(
    prompt, completion, settings, kind, message
):
    with pytest.raises(kind, match=message):
        load(pair(prompt, completion), **settings)
