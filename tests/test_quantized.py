"""A frozen base in 4 bits: batched equals plain PEFT over it, adapters load over it and over float32, refusals."""

import copy
import importlib.util
import json
from functools import partial

import numpy as np
import peft
import pytest
import torch
import transformers
from transformers import BitsAndBytesConfig

import declora
import tiny
from declora import cli
from declora.errors import ConfigError, ModelError
from declora.model import Storage, load_base
from declora.model.borrowed import borrowed
from declora.model.quantized import REPACKING, quantization_of
from test_train import SGD, assert_batched_equals_alone, batched, tokens_of

bitsandbytes = pytest.importorskip("bitsandbytes")

CPU = torch.device("cpu")
# Rows of whole blocks: others are read wrongly by bitsandbytes on some CPUs, which declora refuses.
tiny_bert, tiny_roberta, tiny_gpt2, tiny_llama = (
    partial(make, width=64) for make in (tiny.tiny_bert, tiny.tiny_roberta, tiny.tiny_gpt2, tiny.tiny_llama)
)
# The 16 values of NF4 (Dettmers et al. 2023, arXiv 2305.14314, appendix E).
NF4 = torch.tensor([
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
])  # fmt: skip


def base_of(model, tokenizer, task="classification", labels=2, **settings):
    """A base whose layers, like those of a run, are not repacked where nobody asks for gradients."""
    names = [f"c{i}" for i in range(labels)]
    settings = settings or {"load_in_4bit": True}
    base = load_base(model, task=task, label_names=names, tokenizer=tokenizer, device="cpu", **settings).model
    for module in base.modules():
        if hasattr(module, REPACKING):
            setattr(module, REPACKING, False)
    return base


def four_bit(model):
    return [name for name, module in model.named_modules() if isinstance(module, bitsandbytes.nn.Linear4bit)]


def saved(model, tokenizer, path):
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return str(path)


@pytest.fixture
def run(tokenizer, texts):
    def simulate(model, **settings):
        defaults = {
            "data": texts,
            "clients": 3,
            "rounds": 2,
            "local_steps": 2,
            "lora": {"r": 2},
            "learning_rate": 1e-2,
            "tokenizer": tokenizer,
        }
        return declora.simulate(model=model, **{**defaults, **settings})

    return simulate


# --- what is quantized, and how


def test_weights_are_nf4_with_one_scale_per_64_values(tokenizer):
    """Against the definition: the nearest of the 16 values times the largest magnitude of the block."""
    plain = tiny_bert()
    base = base_of(copy.deepcopy(plain), tokenizer, quantization_config={"bnb_4bit_use_double_quant": False})
    for name in four_bit(base):
        weight = plain.get_submodule(name).weight.detach()
        blocks = weight.reshape(-1, 64)
        scale = blocks.abs().amax(1, keepdim=True)
        expected = NF4[((blocks / scale).unsqueeze(2) - NF4).abs().argmin(2)] * scale
        stored = base.get_submodule(name).weight
        found = bitsandbytes.functional.dequantize_4bit(stored.data, stored.quant_state)
        torch.testing.assert_close(found, expected.view_as(weight), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "task", "kept"),
    [
        (tiny_bert, "classification", {"classifier"}),
        (tiny_roberta, "classification", {"classifier.dense", "classifier.out_proj"}),
        (lambda: tiny_gpt2(transformers.GPT2ForSequenceClassification), "classification", {"score"}),
        (tiny_llama, "causal-lm", {"lm_head"}),
        (tiny_gpt2, "causal-lm", {"lm_head"}),
    ],
    ids=["bert", "roberta", "gpt2 classifier", "llama", "gpt2"],
)
def test_every_linear_layer_but_the_head_is_quantized_from_memory_and_from_disk(make, task, kept, tokenizer, tmp_path):
    plain = make()
    linear = {n for n, m in plain.named_modules() if isinstance(m, torch.nn.Linear | transformers.Conv1D)}
    labels = plain.config.num_labels
    before = copy.deepcopy(plain.state_dict())
    from_memory = base_of(plain, tokenizer, task, labels)
    from_disk = base_of(saved(plain, tokenizer, tmp_path), tokenizer, task, labels)
    for base in (from_memory, from_disk):
        assert set(four_bit(base)) == linear - kept
        assert not base.training
        assert base.dtype == torch.float32
    assert all(torch.equal(a, b) for a, b in zip(from_memory.parameters(), from_disk.parameters(), strict=True))
    # The model that was passed in is as it was, and still float32.
    assert not four_bit(plain)
    assert all(torch.equal(value, before[name]) for name, value in plain.state_dict().items())


def test_a_new_head_and_random_weights_are_drawn_as_without_quantization(tokenizer, tmp_path):
    path = saved(tiny_bert().bert, tokenizer, tmp_path)
    plain = load_base(path, task="classification", label_names="ab", device="cpu", seed=5).model
    state = torch.get_rng_state()
    base = load_base(path, task="classification", label_names="ab", device="cpu", seed=5, load_in_4bit=True).model
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(base.classifier.weight, plain.classifier.weight)
    config = tiny_llama().config
    plain, base = (base_of(config, tokenizer, "causal-lm", seed=1, load_in_4bit=bits) for bits in (False, True))
    assert torch.equal(base.lm_head.weight, plain.lm_head.weight)
    assert len(four_bit(base)) == 14


def test_storage_counts_codes_scales_and_what_stays(tokenizer):
    plain = tiny_bert()
    linear = [plain.get_submodule(name).weight.numel() for name in four_bit(base_of(plain, tokenizer))]
    whole = sum(p.nbytes for p in plain.parameters()) + sum(b.nbytes for b in plain.buffers())
    assert Storage.of(plain) == Storage("float32", whole, whole)
    # Half a byte a value, a scale of 4 bytes for 64 of them, and the 16 levels with each layer.
    single = base_of(plain, tokenizer, quantization_config={"bnb_4bit_use_double_quant": False})
    packed = sum(n // 2 + 4 * (n // 64) + 64 for n in linear)
    assert Storage.of(single) == Storage("nf4", whole - 4 * sum(linear) + packed, whole)
    # Scales in a byte each; a scale of 256 scales, their 256 levels, and their mean.
    double = base_of(plain, tokenizer)
    packed = sum(n // 2 + n // 64 + 64 + 4 * -(-n // 64 // 256) + 1024 + 4 for n in linear)
    assert Storage.of(double).size == whole - 4 * sum(linear) + packed


def test_tables_mean_qlora_unless_they_say_otherwise_and_objects_are_taken_as_they_are():
    usual = quantization_of(True, None, CPU)
    assert (usual.bnb_4bit_quant_type, usual.bnb_4bit_use_double_quant) == ("nf4", True)
    assert usual.bnb_4bit_compute_dtype == torch.float32
    assert quantization_of(True, None, torch.device("cuda")).bnb_4bit_compute_dtype == torch.bfloat16
    table = {"bnb_4bit_quant_type": "fp4", "bnb_4bit_compute_dtype": "bfloat16"}
    other = quantization_of(False, table, CPU)
    assert (other.bnb_4bit_quant_type, other.bnb_4bit_use_double_quant) == ("fp4", True)
    assert other.bnb_4bit_compute_dtype == torch.bfloat16
    own = BitsAndBytesConfig(load_in_4bit=True)
    assert quantization_of(False, own, CPU).to_dict() == own.to_dict()
    # What a run folder's config.json holds of either gives the same again.
    for fields in (table, own):
        held = json.loads(json.dumps(declora.SimulationConfig(quantization_config=fields).describe()))
        again = quantization_of(False, held["quantization_config"], CPU)
        assert again.to_dict() == quantization_of(False, fields, CPU).to_dict()
    assert quantization_of(False, None, CPU) is None


@pytest.mark.parametrize(("capability", "dtype"), [((7, 5), torch.float16), ((8, 0), torch.bfloat16)], ids=str)
def test_a_card_without_bfloat16_multiplies_in_float16(capability, dtype, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert quantization_of(True, None, torch.device("cuda")).bnb_4bit_compute_dtype == dtype


def test_flags_files_and_comparisons_carry_the_setting(run, tokenizer, tmp_path, monkeypatch):
    file = tmp_path / "run.toml"
    file.write_text('[quantization_config]\nbnb_4bit_quant_type = "fp4"\n')
    caught = []
    monkeypatch.setattr(declora, "simulate", lambda config: caught.append(config))
    for arguments in (
        ["--load-in-4bit"],
        ["--quantization-config", '{bnb_4bit_quant_type = "fp4"}'],
        ["--config", file],
    ):
        assert cli.main(["simulate", *map(str, arguments)]) == 0
    assert [(c.load_in_4bit, c.quantization_config) for c in caught] == [
        (True, None),
        (False, {"bnb_4bit_quant_type": "fp4"}),
        (False, {"bnb_4bit_quant_type": "fp4"}),
    ]
    monkeypatch.undo()
    both = run(tiny_bert(), compare=["dec-lora", "dec-lora load_in_4bit=true"])
    kinds = [result.facts()["base"].split(",")[0] for result in both.results.values()]
    assert kinds == ["float32", "nf4"]
    alone = run(tiny_bert(), load_in_4bit=True)
    assert torch.equal(both["dec-lora load_in_4bit=true"].average.row, alone.average.row)


# --- together equals one at a time

LAYERS = {
    "bert": (tiny_bert, "classification", {"target_modules": ["query", "value"]}),
    "gpt2 (Conv1D)": (tiny_gpt2, "causal-lm", {"target_modules": ["c_attn"]}),
    "llama, all linear layers": (tiny_llama, "causal-lm", {"target_modules": "all-linear"}),
}


@pytest.mark.parametrize("name", LAYERS)
def test_training_together_over_4_bits_equals_training_each_client_alone_with_peft(name, tokenizer):
    make, task, fields = LAYERS[name]
    model = base_of(make(), tokenizer, task)
    tokens = tokens_of(tokenizer, task)
    lora = peft.LoraConfig(
        r=4, lora_alpha=8, task_type="SEQ_CLS" if task == "classification" else "CAUSAL_LM", **fields
    )
    plain = peft.get_peft_model(copy.deepcopy(model), copy.deepcopy(lora))
    assert {type(m).__name__ for m in plain.modules() if isinstance(m, peft.tuners.lora.LoraLayer)} == {"Linear4bit"}
    assert_batched_equals_alone(model, lora, tokens)


def test_gradients_are_those_of_the_dequantized_weights(tokenizer):
    """Also below other 4-bit layers: training over codes equals training over a float32 base of the same values."""
    model = base_of(tiny_bert(), tokenizer)
    dense = tiny_bert()
    for name in four_bit(model):
        stored = model.get_submodule(name).weight
        values = bitsandbytes.functional.dequantize_4bit(stored.data, stored.quant_state)
        dense.get_submodule(name).weight.data.copy_(values)
    lora = peft.LoraConfig(r=4, task_type="SEQ_CLS", target_modules="all-linear")
    tokens = tokens_of(tokenizer, "classification")
    (_, end, *_), (start, expected, *_) = (
        batched(base, lora, tokens, spread=0.02, **SGD, momentum=0.0) for base in (model, dense)
    )
    torch.testing.assert_close(end, expected, atol=1e-6, rtol=1e-5)
    assert (expected - start).abs().max() > 1e-2


def test_a_group_of_any_size_and_a_rerun_give_the_same(run):
    first, again, pairs = (run(tiny_bert(), load_in_4bit=True, **more) for more in ({}, {}, {"group_size": 2}))
    assert torch.equal(first.average.row, again.average.row)
    torch.testing.assert_close(pairs.average.row, first.average.row, atol=1e-5, rtol=1e-4)
    assert not torch.equal(first.average.row, run(tiny_bert()).average.row)


def test_bfloat16_products_keep_float32_adapters_and_the_users_model(run):
    model = tiny_bert()
    result = run(model, quantization_config={"bnb_4bit_compute_dtype": "bfloat16"})
    assert result.average.row.dtype == torch.float32
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    # bfloat16 keeps 8 bits; the losses of the first round differ by the rounding of products only.
    exact = run(tiny_bert(), load_in_4bit=True).history["train_loss"].iloc[0]
    assert result.history["train_loss"].iloc[0] == pytest.approx(exact, abs=0.02)


# --- adapters in and out


def test_adapters_load_with_peft_over_a_4_bit_and_a_float32_base(run, tokenizer, texts, tmp_path):
    result = run(tiny_bert(), load_in_4bit=True, rounds=4)
    assert result.facts()["base"].startswith("nf4, ")
    result.average.save_pretrained(tmp_path)
    held_out = texts["validation"][:]
    batch, labels = tokenizer(held_out["text"], padding=True, return_tensors="pt"), torch.tensor(held_out["label"])
    state = result.average.state_dict()
    for base in (base_of(tiny_bert(), tokenizer), tiny_bert()):
        loaded = peft.PeftModel.from_pretrained(copy.deepcopy(base), tmp_path).eval()
        with torch.no_grad():
            logits = loaded(**batch).logits
            # The oracle: a float32 model with W + scale B A, of whatever W the base holds.
            dense = tiny_bert()
            for name in four_bit(base):
                stored = base.get_submodule(name).weight
                dense.get_submodule(name).weight.copy_(
                    bitsandbytes.functional.dequantize_4bit(stored.data, stored.quant_state)
                )
            for key in [k for k in state if k.endswith("lora_A.weight")]:
                module = dense.get_submodule(key.removeprefix("base_model.model.").removesuffix(".lora_A.weight"))
                module.weight += state[key.replace("lora_A", "lora_B")] @ state[key]
            dense.classifier.weight.copy_(state["base_model.model.classifier.weight"])
            dense.classifier.bias.copy_(state["base_model.model.classifier.bias"])
            torch.testing.assert_close(logits, dense(**batch).logits, atol=1e-5, rtol=1e-5)
        if four_bit(base):
            accuracy = float((logits.argmax(1) == labels).float().mean())
            assert result.history["average_accuracy"].iloc[-1] == pytest.approx(accuracy)


def test_causal_adapters_load_over_a_4_bit_base_with_the_same_perplexity(run, tokenizer, texts, tmp_path):
    settings = {"task": "causal-lm", "lora": {"r": 2, "target_modules": ["q_proj", "v_proj"]}}
    result = run(tiny_llama(), load_in_4bit=True, **settings)
    result.average.save_pretrained(tmp_path)
    loaded = peft.PeftModel.from_pretrained(base_of(tiny_llama(), tokenizer, "causal-lm"), tmp_path).eval()
    loss = tokens = 0.0
    with torch.no_grad():
        for text in texts["validation"]["text"]:
            ids = tokenizer(text + tokenizer.eos_token, return_tensors="pt")["input_ids"]
            loss += float(loaded(input_ids=ids, labels=ids).loss) * (ids.shape[1] - 1)
            tokens += ids.shape[1] - 1
    assert result.history["average_perplexity"].iloc[-1] == pytest.approx(np.exp(loss / tokens), rel=1e-4)


def test_a_model_that_is_quantized_already_is_taken_as_it_is(run, tokenizer, tmp_path):
    own = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="fp4", llm_int8_skip_modules=["classifier"])
    path = saved(tiny_bert(), tokenizer, tmp_path / "plain")
    loaded = transformers.BertForSequenceClassification.from_pretrained(path, quantization_config=own)
    saved(loaded, tokenizer, tmp_path / "packed")
    by_declora = run(path, quantization_config=own)
    for model, settings in ((loaded, {}), (loaded, {"load_in_4bit": True}), (str(tmp_path / "packed"), {})):
        result = run(model, **settings)
        assert torch.equal(result.average.row, by_declora.average.row)
        assert result.facts()["base"].startswith("fp4, ")
    assert load_base(loaded, task="classification", label_names="ab", tokenizer=tokenizer, device="cpu").model is loaded
    other = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": False, "bnb_4bit_compute_dtype": "float32"}
    for model in (loaded, str(tmp_path / "packed")):
        with pytest.raises(ModelError, match=r"quant_type='nf4', but the model is quantized already, with 'fp4'"):
            run(model, quantization_config=other)


# --- what is refused


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"load_in_4bit": "nf4"}, r"load_in_4bit='nf4' must be true or false"),
        ({"quantization_config": "nf4"}, "quantization_config='nf4' must be a table"),
        ({"quantization_config": {"bnb_4bit_quant_typ": "nf4"}}, "Did you mean 'bnb_4bit_quant_type'"),
        ({"quantization_config": {"bnb_4bit_quant_type": "nf5"}}, "Did you mean 'nf4'"),
        ({"quantization_config": {"bnb_4bit_compute_dtype": "float33"}}, "float33"),
        ({"quantization_config": {"bnb_4bit_use_double_quant": "yes"}}, "must be a boolean"),
        ({"quantization_config": {"load_in_8bit": True}}, "results would depend on the others' data"),
        ({"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}, "results would depend on the others' data"),
        ({"quantization_config": BitsAndBytesConfig()}, "quantizes nothing"),
        ({"quantization_config": {"quant_method": "gptq"}}, "gptq"),
    ],
    ids=str,
)
def test_a_setting_that_is_not_4_bits_is_refused_by_name(run, settings, message):
    with pytest.raises(ConfigError, match=message):
        run(tiny_bert(), **settings)


def test_without_bitsandbytes_the_error_says_how_to_get_it(run, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else find(name))
    with pytest.raises(ModelError, match="pip install bitsandbytes"):
        run(tiny_bert(), load_in_4bit=True)


def test_a_module_in_4_bits_cannot_be_trained_as_a_whole(run, tokenizer, tmp_path):
    lora = {"r": 2, "target_modules": ["query"], "modules_to_save": ["pooler"]}
    with pytest.raises(ModelError, match=r"module 'bert.pooler' is to be trained .* stored in 4 bits.*skip_modules"):
        run(tiny_bert(), load_in_4bit=True, lora=lora)
    kept = run(tiny_bert(), quantization_config={"llm_int8_skip_modules": ["bert.pooler"]}, lora=lora)
    assert any("pooler.dense.weight" in name for name in kept.average.state_dict())
    # transformers by itself quantizes the new head, too.
    path = saved(tiny_bert(), tokenizer, tmp_path)
    config = BitsAndBytesConfig(load_in_4bit=True)
    model = transformers.BertForSequenceClassification.from_pretrained(path, quantization_config=config)
    with pytest.raises(ModelError, match=r"module 'classifier' is to be trained .* \['classifier'\]"):
        run(model)


def test_layers_are_not_repacked_for_a_kernel_that_gradients_cannot_pass(tokenizer):
    model = base_of(tiny_bert(), tokenizer)
    layers = [model.get_submodule(name) for name in four_bit(model)]
    for layer in layers:
        setattr(layer, REPACKING, True)  # as on a CPU with AVX512-BF16
    with borrowed(model, device=CPU, pad_id=None):
        assert not any(getattr(layer, REPACKING) for layer in layers)
    assert all(getattr(layer, REPACKING) for layer in layers)
    layers[3].weight.quant_state.packing_format_for_cpu = True
    with pytest.raises(ModelError, match=r"'bert.encoder.layer.0.attention.output.dense' was repacked"):
        base_of(model, tokenizer)


def test_a_model_that_no_longer_is_its_class_is_refused(run):
    model = tiny_bert()
    model.extra = torch.nn.Linear(2, 2)
    with pytest.raises(ModelError, match=r"was changed after it was loaded.*extra"):
        run(model, load_in_4bit=True)


def test_a_model_in_8_bits_is_refused(run, tokenizer, tmp_path):
    path = saved(tiny_bert(), tokenizer, tmp_path)
    config = BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=["classifier"])
    model = transformers.BertForSequenceClassification.from_pretrained(path, quantization_config=config)
    with pytest.raises(ModelError, match="loaded in 8 bits"):
        run(model)


def test_layers_that_bitsandbytes_reads_wrongly_are_refused(tokenizer, monkeypatch):
    """As on CPUs with AVX-512, where rows of 32 values come out wrong in blocks of 64."""
    dequantize = bitsandbytes.functional.dequantize_4bit

    def wrong(codes, state, **others):
        found = dequantize(codes, state, **others)
        return found + 1 if state.shape[-1] % state.blocksize else found

    monkeypatch.setattr(bitsandbytes.functional, "dequantize_4bit", wrong)
    assert four_bit(base_of(tiny_bert(), tokenizer))
    with pytest.raises(ModelError, match=r"layer 'bert.*rows of 32 values .* blocks of 64"):
        base_of(tiny.tiny_bert(), tokenizer)
