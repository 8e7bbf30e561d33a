"""FedProx: a pull to where the round began, and nothing else."""

import numpy as np
import torch

import declora
from declora.methods import Step, build_method
from declora.plan import Columns, Phase, Plan
from declora.state import State
from tiny import tiny_bert

CLIENTS, COLUMNS = 3, 12


def test_the_pull_is_mu_times_the_way_in_trained_columns_alone():
    method, state = build_method("prox:mu=0.5"), State(torch.randn(CLIENTS, COLUMNS))
    plan, trained = Plan.of_clients(COLUMNS, np.full(CLIENTS, 2)), Columns.of(COLUMNS, [(2, 5), (7, 9)])
    begin = state.adapter.clone()
    method.before_round(state, plan)
    state.adapter.add_(torch.randn(CLIENTS, COLUMNS))
    step = Step(plan, Phase(plan.steps, trained), 1, torch.zeros(CLIENTS, COLUMNS), torch.ones(CLIENTS))
    losses = method.gradient(lambda: step.gradients.fill_(1.0).sum(1), state, step)
    expected = torch.ones(CLIENTS, COLUMNS)
    for start, stop in trained.spans:
        expected[:, start:stop] += 0.5 * (state.adapter - begin)[:, start:stop]
    torch.testing.assert_close(step.gradients, expected)
    assert (losses == COLUMNS).all()


def test_without_a_pull_it_is_dec_lora_to_the_bit_and_a_strong_one_holds_clients_back(tokenizer, texts):
    def run(method):
        return declora.simulate(
            model=tiny_bert(), tokenizer=tokenizer, data=texts, clients=4, rounds=2, local_steps=4, batch_size=4,
            codec="none", client_eval_samples=0, progress=False, method=method, optimizer="sgd", learning_rate=0.05,
            lora={"r": 2, "target_modules": ["query"]}, clip_norm=None, warmup=0.0, schedule="constant",
        )  # fmt: skip

    plain, none, strong = (run(method) for method in ("dec-lora", "prox:mu=0", "prox:mu=19"))
    assert torch.equal(plain.average.row, none.average.row)
    # Each step shrinks what the ones before it went by 1 - 0.05 x 19, so clients go less far, and stay closer.
    assert strong.history["consensus_distance"].iloc[-1] < 0.5 * plain.history["consensus_distance"].iloc[-1]
