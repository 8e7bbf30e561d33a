"""Training: the batched path against plain PEFT, one client at a time; order, loss, optimizer, dropout."""

import copy

import numpy as np
import peft
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import tiny_bert, tiny_gpt2, tiny_llama, tiny_roberta, tiny_texts
from declora.errors import ModelError, TrainingError
from declora.model import AdapterBank
from declora.model.batched import BatchedLinear, BatchedLora, Rows
from declora.model.surgery import Surgery
from declora.model.unpad import Unpadding
from declora.train.local_steps import LocalTrainer
from declora.train.loss import row_losses
from declora.train.optimizer import ClientOptimizer
from declora.train.order import ClientOrder, length_slices, steps_per_round
from declora.train.tokens import tokenize

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
    rows = Rows()
    surgery = Surgery(model, lora, rows, seed=3)
    bank = AdapterBank(surgery.layout, surgery.slots, rows)
    bank.fill(surgery.initial, clients, torch.device("cpu"))
    bank.P += spread * torch.randn(bank.P.shape, generator=torch.Generator().manual_seed(5))
    orders = orders_of(tokens, clients, sizes=sizes)
    if only is not None:
        bank.P, bank.G, orders = bank.P[[only]].clone(), bank.G[[only]].clone(), [orders[only]]
    start = bank.P.clone()
    counts = steps_per_round(orders, steps=steps, epochs=None if sizes is None else 1)
    opt = ClientOptimizer(bank.P, bank.G, steps=rounds * counts, clip_norm=0.5, **{**OPTIMIZER, **optimizer})
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
        work = trainer.run(round_index=t + 1)
    assert work.samples.tolist() == [
        sum(len(order.batch(step)) for step in range(count)) for order, count in zip(orders, counts, strict=True)
    ]
    surgery.undo()
    return start, bank.P.clone(), work.losses, surgery.layout


def alone(model, lora, tokens, start, layout, client, *, steps=STEPS, orders=None, **optimizer):
    """Trains one client with plain PEFT and torch's own optimizer; returns its row and mean loss."""
    settings = {**OPTIMIZER, **optimizer}
    wrapped = peft.get_peft_model(copy.deepcopy(model), copy.deepcopy(lora))
    peft.set_peft_model_state_dict(wrapped, layout.unflatten(start[client]))
    wrapped.eval()
    parameters = [p for p in wrapped.parameters() if p.requires_grad]
    if settings["name"] == "adamw":
        opt = torch.optim.AdamW(parameters, lr=settings["learning_rate"], weight_decay=settings["weight_decay"])
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


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_the_optimizer_moves_only_the_rows_that_step_each_on_its_own_schedule(name):
    """Against torch's own optimizer and schedule for each row; weight decay and momentum would move a row at rest."""
    steps, columns = np.array([3, 1, 3, 2, 1]), 37
    draw = torch.Generator().manual_seed(0)
    values = torch.randn(5, columns, generator=draw)
    settings = {"learning_rate": 0.1, "weight_decay": 0.3, "schedule": "linear", "warmup": 0.5, "momentum": 0.9}
    rows = [torch.nn.Parameter(row.clone()) for row in values]
    make = {
        "adamw": lambda row: torch.optim.AdamW([row], lr=0.1, weight_decay=0.3, fused=True),
        "sgd": lambda row: torch.optim.SGD([row], lr=0.1, weight_decay=0.3, momentum=0.9),
    }[name]
    optimizers = [make(row) for row in rows]
    schedules = [
        transformers.get_scheduler("linear", o, num_warmup_steps=round(0.5 * n * 2), num_training_steps=int(n) * 2)
        for o, n in zip(optimizers, steps, strict=True)
    ]
    gradients = torch.zeros_like(values)
    ours = ClientOptimizer(values, gradients, name=name, steps=2 * steps, clip_norm=None, **settings)
    for _ in range(2):
        for step in range(3):
            active = steps > step
            gradients.copy_(torch.randn(5, columns, generator=draw))
            for i in np.flatnonzero(active):
                rows[i].grad = gradients[i].clone()
                optimizers[i].step()
                schedules[i].step()
            before = values.clone()
            ours.step(ours.gradient_norms(), active)
            assert torch.equal(values[~active], before[~active])
            assert torch.equal(values, torch.stack([row.detach() for row in rows]))


@pytest.mark.parametrize("columns", [1, 3, 8, 37])
@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_a_client_is_updated_to_the_same_bits_whoever_is_beside_it(name, columns):
    """The entries after the last whole vector of a row round otherwise than vectors: they must be the same ones."""
    draw = torch.Generator().manual_seed(columns)
    values, steps = torch.randn(7, columns, generator=draw), torch.randn(9, 7, columns, generator=draw)
    settings = {"learning_rate": 0.1, "weight_decay": 0.3, "schedule": "cosine", "warmup": 0.2, "momentum": 0.9}

    def trained(rows):
        own, gradients = values[rows].clone(), torch.zeros(len(rows), columns)
        optimizer = ClientOptimizer(
            own, gradients, name=name, steps=np.full(len(rows), len(steps)), clip_norm=0.5, **settings
        )
        for step in steps:
            gradients.copy_(step[rows])
            optimizer.step(optimizer.gradient_norms(), np.ones(len(rows), dtype=bool))
        return own

    together = trained(range(7))
    for rows in ([0], [0, 1, 2], [3, 4], [6]):
        assert torch.equal(trained(rows), together[rows])


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
    rows = Rows()
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
    surgery = Surgery(model, peft.LoraConfig(r=2, target_modules=["query"], task_type="SEQ_CLS"), Rows(), seed=0)
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
        Surgery(model, lora, Rows(), seed=0)
    assert dict(model.named_modules()) == modules


def test_a_layer_whose_input_does_not_keep_sequences_apart_is_refused():
    layer = BatchedLinear("gate", Rows(count=4))
    layer.weight = torch.zeros(1, 2, 3)
    with pytest.raises(ModelError, match=r"gate.*\(7, 3\) for 4 sequences"):
        layer(torch.zeros(7, 3))


def test_a_loss_that_is_not_finite_names_client_and_round(tokenizer):
    lora = peft.LoraConfig(r=2, target_modules=["query"], task_type="SEQ_CLS")
    model, tokens, rows = tiny_bert(), tokens_of(tokenizer, "classification"), Rows()
    surgery = Surgery(model, lora, rows, seed=0)
    bank = AdapterBank(surgery.layout, surgery.slots, rows)
    bank.fill(surgery.initial, CLIENTS, torch.device("cpu"))
    bank.P[1, -1] = float("nan")
    steps = np.ones(CLIENTS, dtype=np.int64)
    opt = ClientOptimizer(bank.P, bank.G, steps=steps, clip_norm=1.0, **OPTIMIZER)
    trainer = LocalTrainer(model, bank, opt, tokens, orders_of(tokens), steps=steps, group_size=CLIENTS)
    with pytest.raises(TrainingError, match="loss of client 1 is nan in round 4"):
        trainer.run(round_index=4)


def test_causal_loss_equals_the_models_own(tokenizer):
    model, tokens = tiny_gpt2(), tokens_of(tokenizer, "causal-lm")
    batch = tokens.batch(np.arange(6), torch.device("cpu"))
    output = model(**batch.inputs, labels=batch.labels)
    ours = row_losses(output.logits, batch.labels).sum() / tokens.targets(np.arange(6)).sum()
    assert ours.item() == pytest.approx(output.loss.item(), abs=1e-6)


@given(size=st.integers(1, 30), batch=st.integers(1, 12), steps=st.integers(1, 20))
def test_a_client_sees_every_sample_equally_often(size, batch, steps):
    order = ClientOrder(np.arange(100, 100 + size), batch_size=batch, seed=1, client=2)
    seen = np.concatenate([order.batch(step) for step in range(steps)])
    assert len(seen) == batch * steps
    counts = np.bincount(seen - 100, minlength=size)
    assert counts.max() - counts.min() <= 1
    fresh = ClientOrder(np.arange(100, 100 + size), batch_size=batch, seed=1, client=2)
    assert np.array_equal(fresh.batch(steps - 1), order.batch(steps - 1))


@given(size=st.integers(1, 30), batch=st.integers(1, 12), epochs=st.integers(1, 3))
def test_a_whole_epoch_is_every_sample_once_the_last_batch_being_what_is_left(size, batch, epochs):
    order = ClientOrder(np.arange(100, 100 + size), batch_size=batch, seed=1, client=2, whole_epochs=True)
    for epoch in range(epochs):
        batches = [order.batch(epoch * order.steps_per_epoch + step) for step in range(order.steps_per_epoch)]
        assert sorted(np.concatenate(batches)) == list(range(100, 100 + size))
        assert [len(part) for part in batches[:-1]] == [batch] * (len(batches) - 1)
        assert len(batches[-1]) == (size - 1) % batch + 1


@settings(max_examples=50)
@given(lengths=st.lists(st.integers(1, 200), min_size=1, max_size=100))
def test_length_slices_hold_every_row_once_and_fall_in_length(lengths):
    parts = length_slices(np.array(lengths))
    rows = np.concatenate(parts)
    assert sorted(rows) == list(range(len(lengths)))
    assert all(np.diff(np.array(lengths)[rows]) <= 0)
    assert len(parts) <= 4
    assert len(parts) == 1 or min(len(p) for p in parts) >= 8


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
