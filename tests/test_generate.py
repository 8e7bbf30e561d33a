"""Generation and exact match: what the batched layers write is what PEFT's own generate writes, client by client."""

import copy

import numpy as np
import peft
import pytest
import torch

from declora.model import AdapterBank
from declora.model.owners import RowOwners
from declora.model.surgery import Surgery
from declora.train.exact_match import exact_match, is_right
from declora.train.generate import greedy
from test_causal import CHAT_TEMPLATE, chats, corpus, pairs
from tiny import tiny_gpt2, tiny_llama

CLIENTS, NEW = 3, 8


@pytest.fixture(params=[tiny_gpt2, tiny_llama], ids=["gpt2", "llama"])
def bank(request):
    """A model with the bank of clients whose adapters differ, and PEFT's own model of each client."""
    model = request.param()
    lora = peft.LoraConfig(r=4, lora_alpha=16, task_type="CAUSAL_LM", target_modules="all-linear")
    rows = RowOwners()
    plain = copy.deepcopy(model)
    surgery = Surgery(model, lora, rows, seed=3)
    filled = AdapterBank(surgery.layout, surgery.slots, rows)
    filled.fill(surgery.initial, CLIENTS, torch.device("cpu"))
    filled.P += 0.2 * torch.randn(filled.P.shape, generator=torch.Generator().manual_seed(5))

    def alone(row):
        wrapped = peft.get_peft_model(copy.deepcopy(plain), copy.deepcopy(lora))
        peft.set_peft_model_state_dict(wrapped, filled.layout.unflatten(row))
        return wrapped.eval()

    return model, filled, alone


def expected_answer(wrapped, prompt, stop=3):
    ids = torch.from_numpy(prompt).unsqueeze(0)
    output = wrapped.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=NEW,
        eos_token_id=stop,
        pad_token_id=0,
    )
    tokens = output[0, len(prompt) :].tolist()
    return tokens[: tokens.index(stop)] if stop in tokens else tokens


def test_every_client_and_the_average_write_what_peft_generates_alone(bank, tokenizer, monkeypatch):
    model, filled, alone = bank
    questions = corpus(pairs(12), tokenizer, model, max_new_tokens=NEW).questions
    assert len({len(prompt) for prompt in questions.prompts}) > 3, "prompts of one length need no padding"
    monkeypatch.setattr("declora.train.generate.TOKENS_PER_BATCH", {"cpu": 200})
    for values in (filled.P, filled.P.mean(0, keepdim=True)):
        owners = np.repeat(np.arange(len(values)), 12)
        prompts = questions.prompts * len(values)
        found = greedy(model, filled, values, prompts, owners, max_new_tokens=NEW, stop=[3], pad_id=0)
        wrapped = [alone(row) for row in values]
        expected = [expected_answer(wrapped[owner], prompt) for owner, prompt in zip(owners, prompts, strict=True)]
        assert [answer.tolist() for answer in found] == expected
    assert len({tuple(answer) for answer in expected}) > 1


def test_clients_write_different_answers_and_stop_tokens_end_them(bank, tokenizer):
    model, filled, _ = bank
    prompts = corpus(pairs(6), tokenizer, model, max_new_tokens=NEW).questions.prompts
    owners = np.repeat(np.arange(CLIENTS), 6)
    options = {"max_new_tokens": NEW, "pad_id": 0}
    long = greedy(model, filled, filled.P, prompts * CLIENTS, owners, stop=[], **options)
    assert {len(answer) for answer in long} == {NEW}
    assert [a.tolist() for a in long[:6]] != [a.tolist() for a in long[6:12]]
    second = int(long[0][1])
    short = greedy(model, filled, filled.P, prompts * CLIENTS, owners, stop=[second], **options)
    for full, ended in zip(long, short, strict=True):
        at = full.tolist().index(second) if second in full else NEW
        assert ended.tolist() == full[:at].tolist()


def test_the_models_own_generation_settings_do_not_change_a_greedy_answer(bank, tokenizer):
    model, filled, _ = bank
    prompts = corpus(pairs(6), tokenizer, model, max_new_tokens=NEW).questions.prompts
    options = {"max_new_tokens": NEW, "stop": [3], "pad_id": 0}
    one = filled.P[:1], prompts, np.zeros(6, dtype=np.int64)
    plain = greedy(model, filled, *one, **options)
    model.generation_config.update(do_sample=True, temperature=5.0, repetition_penalty=3.0, suppress_tokens=[5, 6, 7])
    before = model.generation_config
    again = greedy(model, filled, *one, **options)
    assert [a.tolist() for a in again] == [a.tolist() for a in plain]
    assert model.generation_config is before


def test_questions_are_the_prompts_and_end_as_the_data_does(tokenizer):
    tokenizer.chat_template = CHAT_TEMPLATE.replace("[SEP]", "<|end|>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|end|>"]})
    model = tiny_llama()
    model.resize_token_embeddings(len(tokenizer))
    questions = corpus(chats(4), tokenizer, model, max_new_tokens=4).questions
    assert tokenizer.convert_tokens_to_ids("<|end|>") in questions.stop
    assert 3 in questions.stop
    text = tokenizer.decode(questions.prompts[0]).split()
    assert text == ["[CLS]", "[UNK]", *chats(4)["messages"][0][0]["content"].split(), "<|end|>", "[CLS]", "[UNK]"]
    assert questions.answers == [
        messages[1 if i % 2 == 0 else 4]["content"] for i, messages in enumerate(chats(4)["messages"])
    ]


def test_exact_match_is_the_share_of_right_answers_of_each_adapter(bank, tokenizer):
    """The right answers are made to be those of client 1 for half of the questions."""
    model, filled, alone = bank
    data = pairs(8)
    questions = corpus(data, tokenizer, model, max_new_tokens=NEW).questions
    written = [
        tokenizer.decode(expected_answer(alone(filled.P[1]), prompt), skip_special_tokens=True)
        for prompt in questions.prompts
    ]
    answers = [text if i % 2 else text + " w1" for i, text in enumerate(written)]
    data = data.remove_columns("completion").add_column("completion", answers)
    questions = corpus(data, tokenizer, model, max_new_tokens=NEW).questions
    matches = exact_match(model, filled, filled.P, questions, np.arange(8), tokenizer)
    assert matches[1] == 0.5
    assert matches.shape == (CLIENTS,)
    assert matches[0] < 0.5
    odd = exact_match(model, filled, filled.P[1:2], questions, np.arange(1, 8, 2), tokenizer)
    assert odd.tolist() == [1.0]


@pytest.mark.parametrize(
    ("answer", "expected", "right"),
    [
        ("He makes 9 * 2 = 18. #### 18", "16 - 3 - 4 = 9 #### 18", True),
        ("####18", "way #### 18", True),
        ("#### $70,000", "#### 70000", True),
        ("#### 70000", "#### 70,000", True),
        ("#### 2.50", "#### 2.5", True),
        ("#### .5", "#### 0.5", True),
        ("#### -3", "#### -3", True),
        ("#### 3", "#### -3", False),
        ("#### 18.", "#### 18", True),
        ("#### 18 apples #### 19", "#### 18", True),
        ("#### 19 #### 18", "#### 18", False),
        ("The answer is 18", "#### 18", False),
        ("", "#### 18", False),
        (" red \n apple ", "red apple", True),
        ("red apples", "red apple", False),
        ("Red apple", "red apple", False),
    ],
)
def test_answers_are_right_by_their_number_or_their_words(answer, expected, right):
    assert is_right(answer, expected) is right
