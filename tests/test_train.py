"""Training: the batched path against plain PEFT, one client at a time; order, loss, optimizer, dropout."""

import copy

import numpy as np
import peft
import pytest
import torch
import transformers

from declora.errors import ModelError
from declora.methods import build_method
from declora.model import AdapterBank, Layout
from declora.model.batched import BatchedLinear, BatchedLora
from declora.model.owners import RowOwners
from declora.model.surgery import Surgery
from declora.model.unpad import Unpadding
from declora.plan import Plan
from declora.state import State
from declora.train.local_steps import LocalTrainer
from declora.train.loss import row_losses
from declora.train.optimizer import ClientOptimizer
from declora.train.order import ClientOrder, steps_per_round
from declora.train.tokens import tokenize
from tiny import tiny_bert, tiny_gpt2, tiny_llama, tiny_roberta, tiny_texts

# SGD where two orders of the same sums are compared: AdamW would blow up the rounding of gradients near 0.
SGD = {"name": "sgd", "learning_rate": 0.1, "weight_decay": 0.0}
CLIENTS, BATCH, STEPS = 3, 4, 4
OPTIMIZER = {
    "name": "adamw",
    "learning_rate": 5e-3,
    "weight_decay": 0.01,
    "momentum": 0.0,
    "schedule": "linear",
    "warmup": 0.25,
}


def tokens_of(tokenizer, task, labels=2):
    return tokenize(
        tiny_texts(60, labels),
        tokenizer,
        task=task,
        text_columns=["text"],
        label_column="label",
        max_length=32,
    )


def orders_of(tokens, clients=CLIENTS, batch=BATCH, sizes=None):
    """Equal shards in an endless stream, or with `sizes` shards of these sizes in whole epochs."""
    ends = None if sizes is None else np.cumsum(sizes)
    shards = (
        np.array_split(np.arange(len(tokens)), clients) if sizes is None else np.split(np.arange(ends[-1]), ends[:-1])
    )
    return [
        ClientOrder(shard, batch_size=batch, seed=7, client=i, whole_epochs=sizes is not None)
        for i, shard in enumerate(shards)
    ]


def batched(
    model,
    lora,
    tokens,
    *,
    clients=CLIENTS,
    group_size=CLIENTS,
    steps=STEPS,
    sort=True,
    spread=0.0,
    sizes=None,
    only=None,
    rounds=1,
    unpad=False,
    **optimizer,
):
    """Trains `clients` together; returns start rows, end rows, losses, layout.

    `spread` makes the starts differ; `sizes` are of shards that are passed once a round; `only` is one client, alone.
    """
    rows = RowOwners()
    surgery = Surgery(model, lora, rows, seed=3)
    bank = AdapterBank(surgery.layout, surgery.slots, rows)
    bank.fill(surgery.initial, clients, torch.device("cpu"))
    bank.P += spread * torch.randn(bank.P.shape, generator=torch.Generator().manual_seed(5))
    orders = orders_of(tokens, clients, sizes=sizes)
    if only is not None:
        bank.P, bank.G, orders = bank.P[[only]].clone(), bank.G[[only]].clone(), [orders[only]]
    start = bank.P.clone()
    counts = steps_per_round(orders, steps=steps, epochs=None if sizes is None else 1)
    options = {**OPTIMIZER, **optimizer}
    options["weight_decay"] *= surgery.layout.matrices
    opt = ClientOptimizer(bank.P, bank.G, steps=rounds * counts, clip_norm=0.5, **options)
    bank.bind(bank.P[:1])
    unpadding = Unpadding.of(model, rows) if unpad else None
    assert unpad == (unpadding is not None)
    trainer = LocalTrainer(
        model,
        bank,
        opt,
        tokens,
        orders,
        steps=counts,
        group_size=group_size,
        sort_by_length=sort,
        unpadding=unpadding,
    )
    for t in range(rounds):
        work = round_of(trainer, t)
    assert work.samples.tolist() == [
        sum(tokens.samples(order.batch(step)) for step in range(count))
        for order, count in zip(orders, counts, strict=True)
    ]
    surgery.undo()
    return start, bank.P.clone(), work.losses, surgery.layout


def round_of(trainer, t):
    """Round t of a trainer of clients who do not talk."""
    plan = Plan.of_clients(trainer._bank.layout.columns, trainer._steps, t)
    return trainer.run(plan, State(trainer._bank.P), build_method("local"))


def alone(model, lora, tokens, start, layout, client, *, steps=STEPS, orders=None, **optimizer):
    """Trains one client with plain PEFT and torch's own optimizer; returns its row and mean loss."""
    settings = {**OPTIMIZER, **optimizer}
    wrapped = peft.get_peft_model(copy.deepcopy(model), copy.deepcopy(lora))
    peft.set_peft_model_state_dict(wrapped, layout.unflatten(start[client]))
    wrapped.eval()
    parameters = [p for p in wrapped.parameters() if p.requires_grad]
    if settings["name"] == "adamw":
        # As transformers' Trainer groups them: no decay of biases.
        decay = {True: settings["weight_decay"], False: 0.0}
        groups = [
            {"params": [p for p in parameters if (p.dim() > 1) is which], "weight_decay": decay[which]}
            for which in decay
        ]
        opt = torch.optim.AdamW(groups, lr=settings["learning_rate"])
    else:
        opt = torch.optim.SGD(parameters, lr=settings["learning_rate"], momentum=settings["momentum"])
    schedule = transformers.get_scheduler(
        settings["schedule"],
        opt,
        num_warmup_steps=round(settings["warmup"] * steps),
        num_training_steps=steps,
    )
    order, losses = (orders or orders_of(tokens))[client], []
    for step in range(steps):
        batch = tokens.batch(order.batch(step), torch.device("cpu"))
        loss = wrapped(**batch.inputs, labels=batch.labels).loss
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 0.5)
        opt.step()
        schedule.step()
        losses.append(loss.item())
    return layout.flatten(peft.get_peft_model_state_dict(wrapped)), float(np.mean(losses))


def assert_batched_equals_alone(model, lora, tokens, *, unpad=False, **optimizer):
    """Checks that clients trained together end where each would with PEFT and an optimizer of its own."""
    start, end, losses, layout = batched(model, lora, tokens, spread=0.02, unpad=unpad, **optimizer)
    for client in range(CLIENTS):
        expected, loss = alone(model, lora, tokens, start, layout, client, **optimizer)
        # AdamW divides by the root of the second moment, so a rounding difference of 1e-7 in a gradient near 0 can
        # grow; the adapters move by about lr * steps = 2e-2.
        torch.testing.assert_close(end[client], expected, atol=1e-5, rtol=1e-4)
        assert losses[client] == pytest.approx(loss, abs=1e-5)
        assert (end[client] - start[client]).abs().max() > 1e-3


MODELS = {
    "bert": (tiny_bert, "classification", 2, {"target_modules": ["query", "value"]}),
    "roberta, three classes, two-layer head": (
        tiny_roberta,
        "classification",
        3,
        {"target_modules": "all-linear"},
    ),
    "gpt2 language model (Conv1D)": (tiny_gpt2, "causal-lm", 2, {"target_modules": ["c_attn"]}),
    "gpt2 classifier, rsLoRA": (
        lambda: tiny_gpt2(transformers.GPT2ForSequenceClassification),
        "classification",
        2,
        {"target_modules": "all-linear", "use_rslora": True},
    ),
    "llama, ranks by pattern": (
        tiny_llama,
        "causal-lm",
        2,
        {
            "target_modules": ["q_proj", "down_proj"],
            "rank_pattern": {"down_proj": 1},
            "alpha_pattern": {"q_proj": 3},
        },
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_training_together_equals_training_each_client_alone_with_peft(name, tokenizer):
    make, task, labels, fields = MODELS[name]
    task_type = "SEQ_CLS" if task == "classification" else "CAUSAL_LM"
    lora = peft.LoraConfig(r=4, lora_alpha=8, task_type=task_type, **fields)
    model, tokens = make(), tokens_of(tokenizer, task, labels)
    assert_batched_equals_alone(model, lora, tokens)


def test_sgd_with_momentum_equals_torch_for_each_client(tokenizer):
    lora = peft.LoraConfig(r=2, target_modules=["query"], task_type="SEQ_CLS")
    settings = {
        "name": "sgd",
        "learning_rate": 0.1,
        "momentum": 0.9,
        "weight_decay": 0.0,
        "schedule": "cosine",
    }
    model, tokens = tiny_bert(), tokens_of(tokenizer, "classification")
    start, end, _, layout = batched(model, lora, tokens, spread=0.02, **settings)
    expected, _ = alone(model, lora, tokens, start, layout, 1, **settings)
    torch.testing.assert_close(end[1], expected, atol=1e-6, rtol=1e-5)


def test_groups_and_sorting_change_only_the_last_bits(tokenizer):
    lora = peft.LoraConfig(r=2, target_modules=["query", "value"], task_type="SEQ_CLS")
    tokens = tokens_of(tokenizer, "classification")
    _, together, _, _ = batched(tiny_bert(), lora, tokens, **SGD)
    for options in ({"group_size": 1}, {"group_size": 2}, {"sort": False}):
        _, other, _, _ = batched(tiny_bert(), lora, tokens, **SGD, **options)
        torch.testing.assert_close(other, together, atol=1e-5, rtol=1e-4)


def test_weight_decay_reaches_matrices_alone_as_in_transformers_trainer(tokenizer):
    lora = peft.LoraConfig(r=2, target_modules=["query"], task_type="SEQ_CLS")
    model, tokens = tiny_roberta(), tokens_of(tokenizer, "classification", 3)
    wrapped = peft.get_peft_model(copy.deepcopy(model), copy.deepcopy(lora))
    layout = Layout.of(peft.get_peft_model_state_dict(wrapped))
    decayed = {
        name.replace(".default", "").replace(".modules_to_save", "")
        for name in transformers.Trainer.get_decay_parameter_names(None, wrapped)
    }
    assert {"A", "B", "head"} == {block.kind for block in layout if block.name in decayed}
    expected = np.concatenate([np.full(block.size, block.name in decayed) for block in layout])
    assert np.array_equal(layout.matrices, expected)
    # 4 steps at rate 5e-3 take 10 % off what decays.
    assert_batched_equals_alone(model, lora, tokens, weight_decay=5.0)


SIZES = (5, 13, 9)  # 2, 4 and 3 steps of up to 4 samples


def test_clients_of_unequal_epochs_train_as_each_would_alone_with_peft(tokenizer):
    lora = peft.LoraConfig(r=2, target_modules=["query", "value"], task_type="SEQ_CLS")
    tokens, model = tokens_of(tokenizer, "classification"), tiny_bert()
    start, end, losses, layout = batched(model, lora, tokens, spread=0.02, sizes=SIZES)
    orders = orders_of(tokens, sizes=SIZES)
    for client, steps in enumerate((2, 4, 3)):
        expected, loss = alone(model, lora, tokens, start, layout, client, steps=steps, orders=orders)
        torch.testing.assert_close(end[client], expected, atol=1e-5, rtol=1e-4)
        assert losses[client] == pytest.approx(loss, abs=1e-5)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_a_client_that_waits_ends_with_the_bits_of_one_that_trained_alone(tokenizer, name):
    """Two rounds, so that moments, schedule and order of a client that waited are those of one that did not."""
    lora = peft.LoraConfig(r=2, target_modules=["query", "value"], task_type="SEQ_CLS")
    tokens = tokens_of(tokenizer, "classification")
    settings = {"sizes": SIZES, "spread": 0.02, "rounds": 2, "group_size": 1, "name": name, "momentum": 0.9}
    _, together, _, _ = batched(tiny_bert(), lora, tokens, **settings)
    for client in range(CLIENTS):
        _, apart, _, _ = batched(tiny_bert(), lora, tokens, only=client, **settings)
        assert torch.equal(together[client], apart[0])


def test_how_long_others_train_changes_nothing_for_a_client(tokenizer):
    lora = peft.LoraConfig(r=2, target_modules=["query", "value"], task_type="SEQ_CLS", lora_dropout=0.5)
    tokens = tokens_of(tokenizer, "classification")
    settings = {"rounds": 2, "group_size": 1}
    _, short, _, _ = batched(tiny_bert(), lora, tokens, sizes=(5, 13, 9), **settings)
    _, long, _, _ = batched(tiny_bert(), lora, tokens, sizes=(5, 13, 30), **settings)
    assert torch.equal(short[:2], long[:2])
    assert not torch.equal(short[2], long[2])


def test_same_seed_gives_the_same_bits(tokenizer):
    lora = peft.LoraConfig(r=2, target_modules=["query", "value"], task_type="SEQ_CLS", lora_dropout=0.3)
    tokens = tokens_of(tokenizer, "classification")
    first, second = (batched(tiny_bert(), lora, tokens)[1] for _ in range(2))
    assert torch.equal(first, second)


def test_dropout_masks_of_a_client_do_not_depend_on_the_others(tokenizer):
    lora = peft.LoraConfig(r=2, target_modules=["query", "value"], task_type="SEQ_CLS", lora_dropout=0.5)
    tokens = tokens_of(tokenizer, "classification")
    _, together, _, _ = batched(tiny_bert(), lora, tokens, **SGD)
    _, apart, _, _ = batched(tiny_bert(), lora, tokens, **SGD, group_size=1)
    torch.testing.assert_close(apart, together, atol=1e-5, rtol=1e-4)
    without = peft.LoraConfig(r=2, target_modules=["query", "value"], task_type="SEQ_CLS")
    _, dry, _, _ = batched(tiny_bert(), without, tokens, **SGD)
    assert (dry - together).abs().max() > 1e-3


def test_every_client_starts_from_the_same_adapter_and_b_is_zero():
    rows = RowOwners()
    surgery = Surgery(tiny_bert(), peft.LoraConfig(r=4, target_modules="all-linear", task_type="SEQ_CLS"), rows, seed=3)
    bank = AdapterBank(surgery.layout, surgery.slots, rows)
    bank.fill(surgery.initial, 5, torch.device("cpu"))
    assert torch.equal(bank.P, bank.P[:1].expand(5, -1))
    for block in bank.layout:
        values = bank.layout.view(bank.P, block.name)
        assert bool((values == 0).all()) == (block.kind == "B" or block.name.endswith("classifier.bias")), block.name


def test_surgery_gives_the_model_its_own_layers_back():
    model = tiny_roberta()
    before, modules = {k: v.clone() for k, v in model.state_dict().items()}, dict(model.named_modules())
    flags = {name: p.requires_grad for name, p in model.named_parameters()}
    surgery = Surgery(model, peft.LoraConfig(r=2, target_modules=["query"], task_type="SEQ_CLS"), RowOwners(), seed=0)
    assert any(isinstance(m, BatchedLora) for m in model.modules())
    assert any(isinstance(m, BatchedLinear) for m in model.modules())
    surgery.undo()
    assert dict(model.named_modules()) == modules
    assert {name: p.requires_grad for name, p in model.named_parameters()} == flags
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "lora.bias='all'"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa'"),
        ({"target_modules": ["qery"]}, "qery"),
        ({"target_modules": ["word_embeddings"]}, "only linear layers"),
        ({"rank_pattern": {"query": 0}}, "rank_pattern"),
        ({"modules_to_save": ["position_embeddings"]}, "holds a Embedding"),
    ],
)
def test_a_lora_config_that_cannot_be_batched_is_refused_by_name(fields, message):
    model = tiny_bert()
    modules = dict(model.named_modules())
    lora = peft.LoraConfig(**{"r": 2, "target_modules": ["query"], "task_type": "SEQ_CLS", **fields})
    with pytest.raises(ModelError, match=message):
        Surgery(model, lora, RowOwners(), seed=0)
    assert dict(model.named_modules()) == modules


def test_a_layer_whose_input_does_not_keep_sequences_apart_is_refused():
    layer = BatchedLinear("gate", RowOwners(owner=torch.tensor([0, 0, 1, 1]), count=4))
    layer.weight = torch.zeros(2, 2, 3)
    with pytest.raises(ModelError, match=r"gate.*\(7, 3\), in which 4 sequences"):
        layer(torch.zeros(7, 3))


def test_causal_loss_equals_the_models_own(tokenizer):
    model, tokens = tiny_gpt2(), tokens_of(tokenizer, "causal-lm")
    batch = tokens.batch(np.arange(6), torch.device("cpu"))
    output = model(**batch.inputs, labels=batch.labels)
    ours = row_losses(output.logits, batch.labels).sum() / tokens.targets(np.arange(6)).sum()
    assert ours.item() == pytest.approx(output.loss.item(), abs=1e-6)


def test_pairs_carry_token_types_and_padding_is_masked(tokenizer):
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    data = tiny_texts(8).add_column("other", tiny_texts(8, seed=3)["text"])
    tokens = tokenize(
        data,
        tokenizer,
        task="classification",
        text_columns=["text", "other"],
        label_column="label",
        max_length=32,
    )
    batch = tokens.batch(np.arange(8), torch.device("cpu"))
    expected = tokenizer(data["text"][:], data["other"][:], padding=True, return_tensors="pt")
    for name in ("input_ids", "attention_mask", "token_type_ids"):
        assert torch.equal(batch.inputs[name], expected[name])
    assert batch.labels.tolist() == data["label"][:]
