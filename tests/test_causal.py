"""Causal language models: what is a target, what shares a row, and that together equals one at a time."""

import datasets
import numpy as np
import peft
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from declora.data import load
from declora.errors import DataError, ModelError
from declora.train.causal import read_corpus
from declora.train.loss import forward
from declora.train.packing import best_fit, check_packing, pack_blocks, pack_examples
from declora.train.segments import write_examples
from test_train import alone, assert_batched_equals_alone, batched
from tiny import WORDS, tiny_gpt2, tiny_llama, tiny_texts

CPU = torch.device("cpu")
MODELS = {"gpt2": (tiny_gpt2, ["c_attn"]), "llama": (tiny_llama, ["q_proj", "down_proj"])}
CHAT_TEMPLATE = (
    "{% for m in messages %}[CLS] {{ m['role'] }} {{ m['content'] | trim }} [SEP]\n{% endfor %}"
    "{% if add_generation_prompt %}[CLS] assistant{% endif %}"
)
# As Qwen3's: the reasoning of earlier turns is dropped, the last turn begins with an (empty) one.
FORGETFUL_TEMPLATE = (
    "{% for m in messages %}[CLS] {{ m['role'] }} {% if loop.last and m['role'] == 'assistant' %}w58 w59 {% endif %}"
    "{{ m['content'] }} [SEP]\n{% endfor %}{% if add_generation_prompt %}[CLS] assistant {% endif %}"
)


def words(rng: np.random.Generator, most: int) -> str:
    return " ".join(WORDS[i] for i in rng.integers(0, len(WORDS), rng.integers(1, most + 1)))


def pairs(count: int = 60, seed: int = 0, most: int = 9) -> datasets.Dataset:
    rng = np.random.default_rng(seed)
    return datasets.Dataset.from_dict(
        {name: [words(rng, most) for _ in range(count)] for name in ("prompt", "completion")}
    )


def chats(count: int = 60, seed: int = 0) -> datasets.Dataset:
    rng = np.random.default_rng(seed)
    roles = (["user", "assistant"], ["system", "user", "assistant", "user", "assistant", "user"])
    return datasets.Dataset.from_dict(
        {"messages": [[{"role": r, "content": words(rng, 4)} for r in roles[i % 2]] for i in range(count)]}
    )


FORMS = {"pairs": pairs, "chat": chats, "plain text": lambda: tiny_texts(60).remove_columns("label")}


def corpus(data, tokenizer, model=None, *, max_length=32, text_columns=None, eval_data=None, **options):
    text = load(data, eval_data=data if eval_data is None else eval_data, text_columns=text_columns, task="causal-lm")
    return read_corpus(text, model or tiny_gpt2(), tokenizer, max_length=max_length, **options)


@pytest.fixture
def chatty(tokenizer):
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def targets(tokens, row, tokenizer):
    """The tokens of a row that its labels ask for, as text."""
    labels = tokens.batch(np.array([row]), CPU).labels[0]
    return " ".join(tokenizer.convert_ids_to_tokens(labels[labels >= 0].tolist()))


def inputs(tokens, row, tokenizer):
    batch = tokens.batch(np.array([row]), CPU)
    return " ".join(tokenizer.convert_ids_to_tokens(batch.inputs["input_ids"][0].tolist()))


# --- targets


def test_only_the_completion_and_its_end_are_targets(tokenizer):
    data = datasets.Dataset.from_dict({"prompt": ["w1 w2", "w4"], "completion": ["w3", "w5 w6"]})
    tokens = corpus(data, tokenizer).train
    assert inputs(tokens, 0, tokenizer) == "[CLS] w1 w2 w3 [SEP]"
    assert [targets(tokens, row, tokenizer) for row in (0, 1)] == ["w3 [SEP]", "w5 w6 [SEP]"]
    assert tokens.targets(np.arange(2)).tolist() == [2, 3]
    everything = corpus(data, tokenizer, completion_only=False).train
    assert targets(everything, 0, tokenizer) == "w1 w2 w3 [SEP]"


def test_plain_text_is_all_target_but_its_first_token(tokenizer):
    data = datasets.Dataset.from_dict({"text": ["w1 w2 w3"] * 2})
    tokens = corpus(data, tokenizer).train
    assert inputs(tokens, 0, tokenizer) == "[CLS] w1 w2 w3 [SEP] [SEP]"
    assert targets(tokens, 0, tokenizer) == "w1 w2 w3 [SEP] [SEP]"


def conversation(*contents, roles=("user", "assistant")):
    return [{"role": roles[i % 2], "content": content} for i, content in enumerate(contents)]


def test_the_assistants_turns_and_their_ends_are_targets(chatty):
    data = datasets.Dataset.from_dict({"messages": [conversation("w1 w2", "w3", "w4", "w5 w6", "w7")] * 2})
    tokens = corpus(data, chatty).train
    # Roles are not in this vocabulary; what follows the last answer teaches nothing.
    assert (
        inputs(tokens, 0, chatty)
        == "[CLS] [UNK] w1 w2 [SEP] [CLS] [UNK] w3 [SEP] [CLS] [UNK] w4 [SEP] [CLS] [UNK] w5 w6 [SEP]"
    )
    assert targets(tokens, 0, chatty) == "w3 [SEP] w5 w6 [SEP]"
    everything = corpus(data, chatty, completion_only=False).train
    assert everything.targets(np.arange(1)) == tokens.lengths[0] - 1


def test_a_template_that_writes_earlier_turns_differently_still_gives_their_targets(tokenizer):
    tokenizer.chat_template = FORGETFUL_TEMPLATE
    data = datasets.Dataset.from_dict({"messages": [conversation("w1", "w2 w3", "w4", "w5")] * 2})
    assert targets(corpus(data, tokenizer).train, 0, tokenizer) == "w2 w3 [SEP] w58 w59 w5 [SEP]"


def test_a_template_whose_prompt_does_not_begin_the_turn_is_refused(tokenizer):
    tokenizer.chat_template = CHAT_TEMPLATE.replace("[CLS] assistant{% endif", "w9 assistant{% endif")
    with pytest.raises(ModelError, match=r"chat_template renders .* differently .*row 0, message 1"):
        corpus(chats(), tokenizer)


def test_a_tokenizer_without_a_chat_template_is_refused_and_a_refusing_template_names_the_row(tokenizer):
    with pytest.raises(ModelError, match=r"has no chat template.*Set tokenizer\.chat_template"):
        corpus(chats(), tokenizer)
    tokenizer.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHAT_TEMPLATE
    )
    with pytest.raises(DataError, match=r"refuses the conversation of row 1 .*no system role"):
        corpus(chats(), tokenizer)


def test_the_date_that_a_template_writes_is_always_the_same(tokenizer):
    tokenizer.chat_template = (
        "{% if strftime_now is defined %}{{ strftime_now('%d %b %Y (%B, %m)') }}{% endif %} " + CHAT_TEMPLATE
    )
    assert (
        write_examples(load(chats()), chats(), tokenizer, template=None)[0]
        .segments[0]
        .text.startswith("26 Jul 2024 (July, 07) [CLS]")
    )


def test_pairs_can_be_written_as_turns_of_a_conversation(chatty):
    data = datasets.Dataset.from_dict({"prompt": ["w1"] * 2, "completion": ["w2"] * 2})
    tokens = corpus(data, chatty, prompt_template="chat").train
    assert inputs(tokens, 0, chatty) == "[CLS] [UNK] w1 [SEP] [CLS] [UNK] w2 [SEP]"
    assert targets(tokens, 0, chatty) == "w2 [SEP]"


# --- what does not fit


def test_rows_whose_prompt_fills_max_length_are_left_out_with_a_count(tokenizer):
    prompts = ["w1 w2", "w1 w2 w3 w4", "w1 w2 w3"]
    data = datasets.Dataset.from_dict({"prompt": prompts, "completion": ["w5 w6 w7"] * 3})
    with pytest.warns(UserWarning, match="1 of 3 training rows are left out.*max_length=5"):
        read = corpus(data, tokenizer, max_length=5)
    assert read.text.train["prompt"][:] == ["w1 w2", "w1 w2 w3"]
    assert [targets(read.train, row, tokenizer) for row in (0, 1)] == ["w5 w6", "w5"]
    assert read.train.targets(np.arange(2)).min() > 0
    with pytest.raises(DataError, match="no row left"), pytest.warns(UserWarning, match="3 of 3"):
        corpus(data, tokenizer, max_length=3)


def test_a_row_of_a_single_token_is_left_out(tokenizer):
    tokenizer.eos_token = None
    tokenizer.backend_tokenizer.post_processor = None
    data = datasets.Dataset.from_dict({"text": ["w1 w2", "w3"]})
    with pytest.warns(UserWarning, match="1 of 2 training rows"):
        read = corpus(data, tokenizer)
    assert read.train.targets(np.arange(1)).tolist() == [1]
    assert len(read.train) == read.text.train.num_rows == 1


def test_more_tokens_or_positions_than_the_model_has_are_refused(tokenizer):
    config = transformers.GPT2Config(vocab_size=30, n_embd=16, n_layer=1, n_head=2, n_positions=16)
    small = transformers.GPT2LMHeadModel(config)
    with pytest.raises(ModelError, match=r"token \d+, but GPT2LMHeadModel has 30 embeddings"):
        corpus(pairs(), tokenizer, small)
    config.vocab_size = 64
    small = transformers.GPT2LMHeadModel(config)
    with pytest.raises(ModelError, match=r"max_length=32 lets .* 16 positions"):
        corpus(pairs(), tokenizer, small)
    with pytest.raises(ModelError, match=r"max_new_tokens=9 .* 16 positions.*max_new_tokens=\d or less"):
        corpus(pairs(), tokenizer, small, max_length=16, max_new_tokens=9)


# --- together equals one at a time


@pytest.mark.parametrize("packing", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", MODELS)
def test_training_together_equals_training_each_client_alone_with_peft(name, form, packing, chatty):
    make, modules = MODELS[name]
    model = make()
    model.config.use_cache = False  # with a cache, transformers would not read packing from position_ids
    read = corpus(FORMS[form](), chatty, model, packing=packing)
    tokens = read.train
    if packing:
        pack = pack_examples if read.text.has_prompts else pack_blocks
        tokens, _ = pack(tokens, [np.arange(len(tokens))], max_length=32)
    lora = peft.LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM", target_modules=modules)
    assert_batched_equals_alone(model, lora, tokens)


def test_a_bfloat16_base_trains_prompts_together_as_alone(tokenizer):
    model = tiny_llama().to(torch.bfloat16)
    tokens = corpus(pairs(), tokenizer, model).train
    lora = peft.LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM", target_modules=["q_proj"])
    settings = {"name": "sgd", "learning_rate": 0.1, "weight_decay": 0.0}
    start, end, losses, layout = batched(model, lora, tokens, spread=0.02, **settings)
    expected, loss = alone(model, lora, tokens, start, layout, 0, **settings)
    # bfloat16 keeps 8 bits: losses (about 4) agree to 2^-8, and SGD moves adapters in proportion to their gradients.
    assert losses[0] == pytest.approx(loss, abs=2**-6)
    moved = (expected - start[0]).norm()
    assert (end[0] - expected).norm() < 0.05 * moved


# --- packing


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("form", ["pairs", "chat"])
def test_a_packed_row_has_the_losses_that_its_examples_have_alone(name, form, chatty):
    model = MODELS[name][0]()
    read = corpus(FORMS[form](), chatty, model, packing=True)
    shards = np.array_split(np.arange(len(read.train)), 3)
    packed, rows = pack_examples(read.train, shards, max_length=32)
    assert [packed.samples(mine) for mine in rows] == [len(shard) for shard in shards]
    assert packed.targets(np.arange(len(packed))).sum() == read.train.targets(np.arange(len(read.train))).sum()
    for shard, mine in zip(shards, rows, strict=True):
        assert len(mine) < len(shard)
        separate = read.train.batch(shard, CPU)
        together = packed.batch(mine, CPU)
        expected, found = (losses_of_targets(model, batch) for batch in (separate, together))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def losses_of_targets(model, batch):
    """Each target's loss, ascending."""
    with torch.no_grad():
        logits = forward(model, batch)
    labels = batch.labels[:, 1:]
    return torch.nn.functional.cross_entropy(logits[:, :-1][labels >= 0], labels[labels >= 0], reduction="none").sort()[
        0
    ]


def test_plain_text_is_packed_as_one_stream_for_each_client(tokenizer):
    read = corpus(FORMS["plain text"](), tokenizer, packing=True, max_length=10)
    shards = [np.arange(5), np.arange(5, 60)]
    packed, rows = pack_blocks(read.train, shards, max_length=10)
    for shard, mine in zip(shards, rows, strict=True):
        stream = np.concatenate([read.train.ids[read.train.starts[i] : read.train.starts[i + 1]] for i in shard])
        found = np.concatenate([packed.ids[packed.starts[i] : packed.starts[i + 1]] for i in mine])
        # A last row of one token has no target and is left out.
        assert np.array_equal(found, stream[: len(found)])
        assert len(stream) - len(found) == int(len(stream) % 10 == 1)
        assert set(packed.lengths[mine][:-1]) == {10}
        # A text belongs to the row that it begins in.
        first = np.cumsum(read.train.lengths[shard]) - read.train.lengths[shard]
        begun = [sum(10 * row <= place < 10 * row + 10 for place in first) for row in range(len(mine))]
        assert [packed.samples(mine[i : i + 1]) for i in range(len(mine))] == begun
    assert np.array_equal(np.concatenate(rows), np.arange(len(packed)))
    assert np.array_equal(packed.targets(np.arange(len(packed))), packed.lengths - 1)


@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=80), capacity=st.integers(30, 64))
def test_best_fit_holds_everything_once_within_capacity_and_opens_no_needless_row(lengths, capacity):
    lengths = np.array(lengths)
    bins = best_fit(lengths, capacity)
    assert sorted(np.concatenate(bins)) == list(range(len(lengths)))
    loads = [lengths[members].sum() for members in bins]
    assert max(loads) <= capacity
    # Whatever opened a row had room in none before it, and rows only fill up.
    assert all(loads[a] + lengths[bins[b][0]] > capacity for b in range(len(bins)) for a in range(b))


def tiny(kind, **fields):
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(kind(vocab_size=64, **fields)).eval()


class WithoutPositions(transformers.GPT2LMHeadModel):
    """A model whose forward takes no position_ids."""

    def forward(self, input_ids, use_cache=None):
        return super().forward(input_ids, use_cache=use_cache)


def test_packing_is_measured_on_the_model_and_refused_where_examples_see_each_other():
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    for make in (tiny_gpt2, tiny_llama):
        check_packing(make())
        check_packing(make().to(torch.bfloat16))
    check_packing(tiny(transformers.MistralConfig, **sizes, num_key_value_heads=1, sliding_window=4))
    bloom = tiny(transformers.BloomConfig, hidden_size=32, n_layer=2, n_head=2)  # relative positions from its mask
    mamba = tiny(transformers.MambaConfig, hidden_size=32, num_hidden_layers=2)  # a state, no attention
    for model in (bloom, mamba, tiny_gpt2(WithoutPositions)):
        with pytest.raises(ModelError, match=r"packing=True: in \w+ the examples .* see each other.*packing=False"):
            check_packing(model)
