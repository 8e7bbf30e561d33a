"""What split training would send: the numbers that a real model has at a cut, there and back."""

import numpy as np
import pytest

import declora
from declora.config import SimulationConfig
from declora.prepare import prepare
from declora.run import Run
from declora.train.split import split_bytes
from tiny import tiny_bert, tiny_gpt2, tiny_texts


@pytest.mark.parametrize(("model", "work"), [(tiny_bert, {"local_steps": 2}), (tiny_gpt2, {"local_epochs": 1})])
def test_it_is_what_activations_of_the_first_round_have_and_as_much_back(tokenizer, model, work):
    data = tiny_texts(20)
    if model is tiny_gpt2:
        data = data.remove_columns("label")
    config = SimulationConfig(
        model=model(width=16), tokenizer=tokenizer, data=data, clients=2, rounds=1, batch_size=4, codec="none",
        client_eval_samples=0, lora={"r": 2}, unpad=False, sort_by_length=False, group_size=1, **work,
    )  # fmt: skip
    run = Run(config, prepare(config))
    base, tokens, numbers = run.material.base.model, [], []

    def count(block, inputs, output):
        states = output[0] if isinstance(output, tuple) else output
        if states.requires_grad:  # not in evaluation
            numbers.append(tokens[-1] * states.shape[-1])

    def see(embeddings, inputs):
        tokens.append(int((inputs[0] != tokenizer.pad_token_id).sum()))

    first = (base.bert.encoder.layer if model is tiny_bert else base.transformer.h)[0]
    hooks = [base.get_input_embeddings().register_forward_pre_hook(see), first.register_forward_hook(count)]
    outcome = run.execute()
    for hook in hooks:
        hook.remove()
    assert outcome.split_bytes == 2 * 4 * sum(numbers) > 0


def test_texts_of_one_length_cost_2_k_b_l_h_floats_of_each_client(tokenizer):
    length, width, k, b, clients = 7, 16, 3, 5, 4
    texts = [{"text": "w1 w2 w3 w4 w5", "label": i % 2} for i in range(40)]  # and [CLS], [SEP]
    result = declora.simulate(
        model=tiny_bert(width=width), tokenizer=tokenizer, data=texts, clients=clients, rounds=1, local_steps=k,
        batch_size=b, client_eval_samples=0, lora={"r": 2}, progress=False,
    )  # fmt: skip
    assert result.split_bytes == clients * 4 * 2 * k * b * length * width


def test_a_config_that_names_no_width_has_no_price():
    model = tiny_bert()
    model.config.get_text_config = object
    assert split_bytes(model, None, (), np.zeros(0, dtype=np.int64)) is None
