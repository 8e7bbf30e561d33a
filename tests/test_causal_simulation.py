"""simulate with prompts, conversations, packing and generated answers, end to end on tiny models."""

import datasets
import numpy as np
import peft
import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

import declora
from declora.data.files import read_file
from declora.errors import ConfigError, DataError, ModelError
from declora.train.exact_match import is_right
from tiny import WORDS, tiny_gpt2, tiny_llama, tiny_texts


def riddles(count, seed):
    """Six questions with one right answer each."""
    asked = np.random.default_rng(seed).integers(0, 6, count)
    return datasets.Dataset.from_dict(
        {
            "question": [f"w50 {WORDS[i]}" for i in asked],
            "answer": [f"{WORDS[i + 30]} {WORDS[i + 20]}" for i in asked],
        }
    )


@pytest.fixture
def run(tokenizer):
    """Returns `simulate` with tiny defaults."""

    def simulate(**settings):
        defaults = {
            "tokenizer": tokenizer,
            "data": datasets.DatasetDict(train=riddles(96, 1), validation=riddles(20, 2)),
            "clients": 4,
            "rounds": 2,
            "local_steps": 2,
            "lora": {"r": 8, "target_modules": "all-linear"},
            "learning_rate": 3e-2,
            "client_eval_samples": 8,
            "max_length": 16,
        }
        model = settings.pop("model") if "model" in settings else tiny_gpt2()
        return declora.simulate(**{**defaults, "model": model, **settings})

    return simulate


@pytest.mark.parametrize("packing", [False, True])
def test_clients_learn_to_answer_and_peft_gives_the_same_perplexity_and_answers(run, tokenizer, tmp_path, packing):
    result = run(rounds=10, local_steps=4, max_new_tokens=4, packing=packing, eval_every=9)
    result.average.save_pretrained(tmp_path)
    loaded = peft.PeftModel.from_pretrained(tiny_gpt2(), tmp_path).eval()
    loss = right = tokens = 0
    for row in riddles(20, 2):
        prompt = tokenizer(row["question"])["input_ids"][:-1]  # without the [SEP] that this tokenizer appends
        answer = tokenizer(row["answer"])["input_ids"][1:]
        ids = torch.tensor([prompt + answer])
        labels = torch.tensor([[-100] * len(prompt) + answer])
        with torch.no_grad():
            loss += float(loaded(input_ids=ids, labels=labels).loss) * len(answer)
        tokens += len(answer)
        start = torch.tensor([prompt])
        output = loaded.generate(
            input_ids=start, attention_mask=torch.ones_like(start), max_new_tokens=4, do_sample=False, pad_token_id=0
        )
        right += is_right(tokenizer.decode(output[0, len(prompt) :], skip_special_tokens=True), row["answer"])
    last = result.history.iloc[-1]
    assert last["average_perplexity"] == pytest.approx(np.exp(loss / tokens), rel=1e-4)
    assert last["average_exact_match"] == right / 20
    assert last["average_exact_match"] > 0.9  # six answers: guessing one of them gives about 0.17
    assert result.history["average_exact_match"].notna().tolist() == [False] * 8 + [True, True]
    clients = result.clients.query("round == 10")["exact_match"]
    assert last["clients_exact_match_mean"] == pytest.approx(clients.mean())
    assert "exact match of averaged model, last: " in str(result)


def test_packing_gives_the_same_bits_again_and_centralized_packs_the_pooled_data(run):
    first, again = (run(packing=True) for _ in range(2))
    assert torch.equal(first.average.row, again.average.row)
    assert first.history["train_loss"].tolist() == again.history["train_loss"].tolist()
    assert not torch.equal(first.average.row, run().average.row)
    single, centralized = (run(packing=True, clients=1, method=method) for method in ("dec-lora", "centralized"))
    assert torch.equal(single.average.row, centralized.average.row)
    text = {"data": tiny_texts(96).remove_columns("label"), "packing": True}
    assert np.isfinite(run(**text).history["train_loss"]).all()


@pytest.mark.parametrize("data", [None, tiny_texts(96).remove_columns("label")], ids=["pairs", "plain text"])
def test_an_epoch_of_packed_rows_sees_each_sample_once_and_counts_samples(run, data):
    settings = {"local_epochs": 1, "local_steps": None, "packing": True, "max_length": 64}
    result = run(**settings) if data is None else run(**settings, data=data)
    shards = [len(shard) for shard in result.federation.shards]
    for t in (1, 2):
        assert result.clients.query(f"round == {t}")["samples_seen"].tolist() == shards
    assert result.history["samples_total"].tolist() == [sum(shards), 2 * sum(shards)]
    assert (result.clients["local_steps"] * 8 < result.clients["samples_seen"]).all(), "rows were not packed"


def test_conversations_train_on_a_llama(run, tokenizer):
    tokenizer.chat_template = (
        "{% for m in messages %}[CLS] {{ m['role'] }} {{ m['content'] }} [SEP]{% endfor %}"
        "{% if add_generation_prompt %}[CLS] assistant {% endif %}"
    )
    chat = [
        [{"role": "user", "content": r["question"]}, {"role": "assistant", "content": r["answer"]}]
        for r in riddles(60, 3)
    ]
    settings = {"model": tiny_llama(), "max_new_tokens": 3, "max_length": 32, "eval_fraction": 0.2}
    as_chat = run(data=datasets.Dataset.from_dict({"messages": chat}), **settings)
    as_pairs = run(data=riddles(60, 3), prompt_template="chat", **settings)
    assert torch.equal(as_chat.average.row, as_pairs.average.row)
    assert as_chat.history["average_exact_match"].iloc[-1] == as_pairs.history["average_exact_match"].iloc[-1]


def test_runs_with_and_without_answers_stand_in_one_table(run):
    comparison = run(compare={"asked": {"max_new_tokens": 2}, "packed": {"packing": True}})
    assert comparison.table["average_exact_match_last"].notna().tolist() == [True, False]


def test_exact_match_can_be_the_headline_where_answers_are_generated(run):
    result = run(max_new_tokens=2, metric="exact_match")
    assert result.history["metric"].iloc[-1] == "exact_match"
    assert "exact match of averaged model, best: " in str(result)
    with pytest.raises(ConfigError, match="metric='exact_match' needs generated answers"):
        run(metric="exact_match")


# --- adapters where the user names no modules


def tiny_phi3():
    config = transformers.Phi3Config(
        vocab_size=64, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, pad_token_id=0
    )
    return transformers.Phi3ForCausalLM(config)


@pytest.mark.parametrize(
    ("make", "modules"),
    [
        (tiny_gpt2, {"c_attn"}),
        (tiny_llama, {"q_proj", "v_proj"}),
        (
            tiny_phi3,
            {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"},
        ),
    ],
    ids=["gpt2", "llama", "phi3, unknown to PEFT"],
)
def test_every_kind_of_decoder_has_default_target_modules(run, make, modules):
    result = run(model=make(), lora=declora.SimulationConfig().lora)
    found = {block.name.split(".lora_")[0].rpartition(".")[2] for block in result.average.layout}
    assert found == modules
    assert {block.shape[0] for block in result.average.layout if block.kind == "A"} == {8}


# --- an architecture with random weights


def test_the_path_of_a_config_file_is_that_architecture_with_weights_from_the_seed(run, tokenizer, tmp_path):
    tiny_llama().config.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    path = str(tmp_path / "config.json")
    settings = {"lora": {"r": 2}, "rounds": 1}
    first, again, other = (run(model=path, tokenizer=None, seed=seed, **settings) for seed in (1, 1, 2))
    assert torch.equal(first.average.row, again.average.row)
    assert first.history["train_loss"][0] != other.history["train_loss"][0]
    passed = run(model=tiny_llama().config, seed=1, **settings)
    assert torch.equal(passed.average.row, first.average.row)
    assert first.average.config.base_model_name_or_path == path
    with pytest.raises(ModelError, match=r"could not be loaded.*path of a config\.json itself"):
        run(model=str(tmp_path))
    with pytest.raises(ModelError, match=r"tokenizer of .* could not be loaded"):
        run(model=tiny_llama().config, tokenizer=None)
    (tmp_path / "config.json").write_text('{"model_type": "nonsense"}')
    with pytest.raises(ModelError, match="no causal-lm model can be made"):
        run(model=path)
    with pytest.raises(ModelError, match=r"model=5 must be a name or a path, in quotes, or an object"):
        run(model=5)


# --- what is refused


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        ({"max_new_tokens": -1}, ConfigError, "max_new_tokens=-1"),
        ({"prompt_template": 5}, ConfigError, "prompt_template=5"),
        ({"max_new_tokens": 4, "text_columns": "question"}, ConfigError, "nothing to answer"),
        ({"max_new_tokens": 62}, ModelError, r"64 positions.*max_new_tokens=\d+ or less"),
        ({"packing": True, "data": tiny_texts(40)}, ConfigError, "packing=True has no use"),
        ({"max_length": 2}, DataError, "no row left"),
        ({"prompt_template": "chat"}, ModelError, "no chat template"),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:.*rows are left out")
def test_bad_input_gets_one_clear_error_and_nothing_is_written(run, tmp_path, settings, kind, message):
    with pytest.raises(kind, match=message):
        run(out=str(tmp_path / "run"), **settings)
    assert not (tmp_path / "run").exists()


# --- real text


def byte_tokenizer():
    """Every byte is a token: no vocabulary to learn."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(["<end>", *alphabet])}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>", pad_token="<end>")


@pytest.mark.filterwarnings("ignore:.*rows are left out")
def test_gsm8k_trains_packed_and_is_asked_for_its_numbers(real_data, tmp_path):
    head = {
        split: read_file(real_data / "gsm8k" / f"{split}.tsv.gz").dataset.select(range(120))
        for split in ("train", "validation")
    }
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=257, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=512, eos_token_id=0, pad_token_id=0, bos_token_id=None,
    )  # fmt: skip
    result = declora.simulate(
        model=config, tokenizer=byte_tokenizer(), data=datasets.DatasetDict(head), clients=3, rounds=2, local_steps=2,
        batch_size=2, max_length=400, packing=True, max_new_tokens=8, eval_samples=6, client_eval_samples=3,
        out=str(tmp_path / "run"),
        prompt_template="Question: {question}\nAnswer: ",
    )  # fmt: skip
    assert np.isfinite(result.history["average_perplexity"].iloc[-1])
    assert result.history["average_exact_match"].iloc[-1] == 0.0
    assert (tmp_path / "run" / "report.html").exists()
    short = [r for r in head["train"] if len(f"Question: {r['question']}\nAnswer: ".encode()) < 400]
    assert sum(map(len, result.federation.shards)) == len(short) < 120
    answers = [row["answer"] for row in head["validation"]]
    assert all(is_right(answer, answer) for answer in answers)
    assert not any(is_right("#### 1.5", answer) for answer in answers)
