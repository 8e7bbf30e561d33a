"""Differentially private local steps: what a sample adds, how much noise there is, and what is spent."""

import copy
import math
import threading

import datasets
import numpy as np
import peft
import pytest
import torch

import declora
from declora import seeds
from declora.errors import ConfigError, RunFolderError
from declora.methods import Step, build_method
from declora.methods.accountant import epsilon_of, least_sigma
from declora.methods.dp import DifferentialPrivacy
from declora.model import AdapterBank
from declora.model.owners import RowOwners
from declora.model.ranks import beyond as beyond_of
from declora.model.surgery import Surgery
from declora.model.unpad import Unpadding
from declora.plan import Phase, Plan
from declora.run import Run
from declora.train.gradients import Gradients
from declora.train.order import PoissonOrder
from declora.train.passes import Passes
from declora.train.scored import ScoredHead
from test_train import tokens_of
from tiny import tiny_bert, tiny_gpt2, tiny_texts

pytest.importorskip("dp_accounting")

CLIENTS, ROUNDS = 3, 2
BATCHES = [np.array([0, 5, 9, 3]), np.array([], dtype=np.int64), np.array([20, 21])]
MODELS = {
    "bert": (tiny_bert, "classification", "SEQ_CLS", ["query", "value"]),
    "gpt2": (tiny_gpt2, "causal-lm", "CAUSAL_LM", ["c_attn"]),
}


class Computed:
    """Gradients of three clients on a tiny model, of which the second takes no sample."""

    def __init__(self, tokenizer, name="bert", *, unpad=False, scored=False, dropout=0.0, examples=3, group_size=3):
        make, task, task_type, targets = MODELS[name]
        self.model, self.tokens = make(), tokens_of(tokenizer, task)
        self.lora = peft.LoraConfig(r=2, target_modules=targets, task_type=task_type, lora_dropout=dropout)
        self.plain = copy.deepcopy(self.model)
        owners = RowOwners()
        surgery = Surgery(self.model, self.lora, owners, seed=3)
        self.bank = AdapterBank(surgery.layout, surgery.slots, owners)
        self.bank.fill(surgery.initial, CLIENTS, torch.device("cpu"))
        self.bank.P += 0.05 * torch.randn(self.bank.P.shape, generator=torch.Generator().manual_seed(5))
        self.bank.bind(self.bank.P[:1])
        unpadding = Unpadding.of(self.model, owners) if unpad else None
        assert unpad == (unpadding is not None)
        batch = self.tokens.batch(np.arange(2), torch.device("cpu"))
        with owners.computing(2):
            head = ScoredHead.of(self.model, batch) if scored else None
        assert scored == (head is not None)
        self.passes = Passes(self.model, owners, self.tokens, torch.device("cpu"), unpadding=unpadding, head=head)
        orders = [PoissonOrder(np.arange(20 * i, 20 * i + 20), rate=0.2, seed=1, client=i) for i in range(CLIENTS)]
        self.gradients = Gradients(self.passes, self.bank, orders, group_size=group_size, examples=examples)

    def of(self, batches, change=lambda gradients: None, trained=None):
        """G after a step on `batches`."""
        plan = Plan.of_clients(self.bank.layout.columns, np.ones(CLIENTS, dtype=np.int64))
        phase = Phase(plan.steps, trained or self.bank.layout.whole)
        step = Step(plan, phase, 0, self.bank.G, torch.ones(CLIENTS))
        with self.passes.training():
            self.losses = self.gradients.compute(step, np.zeros(CLIENTS, dtype=np.int64), batches, change)
        return self.bank.G.clone()

    def alone(self, client, text):
        """The gradient of one example by PEFT and autograd, `[D]`."""
        wrapped = peft.get_peft_model(copy.deepcopy(self.plain), copy.deepcopy(self.lora)).eval()
        peft.set_peft_model_state_dict(wrapped, self.bank.layout.unflatten(self.bank.P[client]))
        batch = self.tokens.batch(np.array([text]), torch.device("cpu"))
        wrapped(**batch.inputs, labels=batch.labels).loss.backward()
        found = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in wrapped.named_parameters()}
        return self.bank.layout.flatten(peft.get_peft_model_state_dict(wrapped, state_dict=found))


@pytest.mark.parametrize(
    "options",
    [{}, {"unpad": True}, {"examples": 1}, {"name": "gpt2"}, {"name": "gpt2", "unpad": True, "scored": True}],
    ids=str,
)
def test_gradients_of_examples_are_those_of_each_alone_and_are_clipped_jointly(tokenizer, options):
    computed, part, seen = Computed(tokenizer, **options), DifferentialPrivacy(sigma=1.0, clip=0.5), []

    def clip(gradients):
        seen.append(gradients.clone())
        part.per_example(gradients)
        seen.append(gradients.clone())

    found = computed.of(BATCHES, clip)
    raw, clipped = torch.cat(seen[::2]), torch.cat(seen[1::2])
    expected = [computed.alone(client, text) for client, batch in enumerate(BATCHES) for text in batch]
    # A sum of a few hundred float32 products is off by some 1e-6 of its norm.
    torch.testing.assert_close(raw, torch.stack(expected), atol=3e-6, rtol=1e-4)
    norms = raw.norm(dim=1)
    assert (norms > 0.5).any()
    assert (clipped.norm(dim=1) <= 0.5 * (1 + 1e-6)).all()
    torch.testing.assert_close(clipped, raw * (0.5 / norms).clamp(max=1).unsqueeze(1), atol=1e-7, rtol=1e-6)
    mean = 0.2 * 20
    torch.testing.assert_close(found, torch.stack([clipped[:4].sum(0), 0 * raw[0], clipped[4:].sum(0)]) / mean)


def test_a_sample_more_changes_the_sum_by_no_more_than_the_clip(tokenizer):
    computed, part = Computed(tokenizer), DifferentialPrivacy(sigma=1.0, clip=0.3)
    whole = computed.of(BATCHES, part.per_example)
    for left_out in range(4):
        fewer = computed.of([np.delete(BATCHES[0], left_out), *BATCHES[1:]], part.per_example)
        assert 0 < 4 * (whole - fewer)[0].norm() <= 0.3 * (1 + 1e-5)
        assert torch.equal(whole[1:], fewer[1:])


def test_unclipped_the_sum_is_the_gradient_of_the_batch(tokenizer):
    computed = Computed(tokenizer)
    apart = computed.of(BATCHES)
    losses, together = computed.losses, computed.of(BATCHES, None)
    sizes = torch.tensor([4.0, 0.0, 2.0]) / 4
    torch.testing.assert_close(apart, together * sizes.unsqueeze(1), atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(losses, computed.losses * sizes)


def test_clipping_looks_at_no_column_that_is_not_trained(tokenizer):
    computed, part = Computed(tokenizer), DifferentialPrivacy(sigma=1.0, clip=0.5)
    trained, seen = computed.bank.layout.of_kinds("B"), []

    def clip(gradients):
        assert all((gradients[:, start:stop] == 0).all() for start, stop in trained.rest.spans)
        seen.append(gradients.norm(dim=1))
        part.per_example(gradients)

    computed.of(BATCHES, clip, trained)
    assert torch.cat(seen).min() > 0


@pytest.mark.parametrize("options", [{}, {"unpad": True, "dropout": 0.3}], ids=str)
def test_groups_and_passes_change_rounding_alone_and_bits_do_not_depend_on_other_groups(tokenizer, options):
    together = Computed(tokenizer, group_size=3, examples=6, **options).of(BATCHES)
    alone = Computed(tokenizer, group_size=1, **options).of(BATCHES)
    # A sum of a few hundred float32 products is off by some 1e-6 of its norm.
    torch.testing.assert_close(together, alone, atol=3e-6, rtol=1e-4)
    others = Computed(tokenizer, group_size=1, **options).of([np.arange(10, 15), np.array([30]), BATCHES[2]])
    assert torch.equal(alone[2], others[2])


def test_clients_of_a_group_share_its_passes(tokenizer, monkeypatch):
    """One at a time they would take as many passes as there are clients, which takes longer than the work itself."""
    sizes, original = [], Passes.backward

    def watched(self, texts, *arguments, **named):
        sizes.append(len(texts))
        return original(self, texts, *arguments, **named)

    monkeypatch.setattr(Passes, "backward", watched)
    Computed(tokenizer, examples=4).of(BATCHES)
    assert sizes == [4, 2]


def test_poisson_sampling_takes_each_sample_with_its_chance_whatever_else_is_taken():
    order = PoissonOrder(np.arange(100, 140), rate=0.25, seed=1, client=2)
    steps = 2000
    taken = np.zeros((steps, 40))
    for step in range(steps):
        taken[step, order.batch(step) - 100] = 1
    # A sample is taken 500 times with a standard deviation of sqrt(2000 x .25 x .75) = 19.4.
    assert np.abs(taken.sum(0) - 500).max() < 5 * 19.4
    # Sizes are binomial: mean 10, variance 7.5, which is measured to sqrt(2 / 2000) of itself.
    assert taken.sum(1).mean() == pytest.approx(10, abs=5 * math.sqrt(7.5 / steps))
    assert taken.sum(1).var() == pytest.approx(7.5, rel=5 * math.sqrt(2 / steps))
    correlations = np.corrcoef(taken.T)[np.triu_indices(40, 1)]
    assert np.abs(correlations).max() < 5 / math.sqrt(steps)
    assert order.batch(7).tolist() == order.batch(7).tolist()
    assert (order.mean, order.most, order.steps_per_epoch) == (10, 40, 4)
    other = PoissonOrder(order.shard, rate=0.25, seed=1, client=3)
    assert any(other.batch(step).tolist() != order.batch(step).tolist() for step in range(3))


@pytest.fixture
def run(tokenizer, texts):
    def simulate(**settings):
        defaults = {
            "model": tiny_bert(), "tokenizer": tokenizer, "data": texts, "clients": CLIENTS, "rounds": ROUNDS,
            "local_steps": 2, "batch_size": 4, "codec": "none", "client_eval_samples": 0, "progress": False,
            "lora": {"r": 2, "target_modules": ["query", "value"]}, "warmup": 0.0, "schedule": "constant", "seed": 3,
        }  # fmt: skip
        return declora.simulate(**{**defaults, **settings})

    return simulate


def rows(result):
    return torch.stack([result.client(i).row for i in range(result.federation.clients)])


class Watched(DifferentialPrivacy):
    """Keeps the noise of every step: what it adds to gradients that were there before."""

    def __init__(self, **options):
        super().__init__(**options)
        self.noise = []

    def gradient(self, compute, state, step):
        def before():
            losses = compute()
            step.gradients.zero_()  # what is left is noise
            return losses

        losses = super().gradient(before, state, step)
        self.noise.append(step.gradients.clone())
        return losses


def test_noise_has_the_size_it_should_and_is_independent_in_clients_rounds_and_steps(run):
    part = Watched(sigma=1.5, clip=0.2)
    result = run(method=["ffa-lora", part])
    layout = result.average.layout
    trained = layout.of_kinds("B", "head")
    noise = torch.stack(part.noise).double()  # steps, clients, D
    for start, stop in trained.rest.spans:
        assert (noise[..., start:stop] == 0).all()
    noise = torch.cat([noise[..., start:stop] for start, stop in trained.spans], dim=2).flatten(0, 1)
    streams, count = noise.shape
    assert streams == 2 * ROUNDS * CLIENTS
    # sigma C / (q n), with q n the batch size. A standard deviation of N numbers is known to 1 / sqrt(2 N) of itself.
    assert noise.std() == pytest.approx(1.5 * 0.2 / 4, rel=5 / math.sqrt(2 * noise.numel()))
    # Correlations of independent streams have a standard deviation of 1 / sqrt(N).
    assert np.abs(np.triu(np.corrcoef(noise), 1)).max() < 5 / math.sqrt(count)
    draws = seeds.generator(3, "dp", 1, 0, 1).standard_normal(layout.columns, dtype=np.float32)
    start, stop = trained.spans[0]
    np.testing.assert_array_equal(part.noise[1][1, start:stop], np.float32(1.5 * 0.2 / 4) * draws[start:stop])


def test_without_noise_and_clipping_a_run_is_the_bits_of_one_that_is_not_private(run):
    """Each client has one sample, which both take at each step, shuffled or drawn with a chance of 1."""
    one = datasets.DatasetDict(train=tiny_texts(CLIENTS), validation=tiny_texts(8, seed=1))
    settings = {"data": one, "batch_size": 1, "rounds": 3, "group_size": 1}
    private = run(method=DifferentialPrivacy(sigma=0.0, clip=math.inf), **settings)
    plain = run(method="dec-lora", **settings)
    assert torch.equal(rows(private), rows(plain))
    assert private.history["train_loss"].tolist() == plain.history["train_loss"].tolist()
    assert private.history["epsilon"].tolist() == [math.inf] * 3


def test_a_run_spends_what_it_may_and_no_more_and_says_so(run):
    result = run(method="dp:epsilon=3", partition="quantity:1", rounds=3)
    spent = result.history["epsilon"].to_numpy()
    assert (np.diff(spent) > 0).all()
    assert 0.99 * 3 < spent[-1] <= 3
    assert any("sigma=" in note and "3 rounds spend at most epsilon=" in note for note in result.notes)
    assert any("does not protect losses and scores" in note for note in result.notes)


def test_epsilon_is_composed_over_the_steps_of_the_client_that_spent_most(run):
    result = run(method="dp:sigma=1,delta=1e-4", partition="quantity:1", local_steps=None, local_epochs=1)
    sizes, steps = result.federation.samples, result._outcome.local_steps
    rates = np.minimum(1.0, 4 / sizes)
    for t, found in enumerate(result.history["epsilon"], start=1):
        own = [
            epsilon_of(rate=float(q), sigma=1.0, steps=int(t * k), delta=1e-4)
            for q, k in zip(rates, steps, strict=True)
        ]
        assert found == max(own)
    assert steps.tolist() == [-(-size // 4) for size in sizes]


def test_each_client_has_the_noise_that_its_own_samples_need_of_the_accountant_that_is_asked(run):
    part = DifferentialPrivacy(epsilon=3.0, accountant="rdp")
    result = run(method=part, partition="quantity:1")
    order = np.argsort(result.federation.samples)
    assert (np.diff(part._sigmas[order]) <= 0).all()
    assert part._sigmas.max() > part._sigmas.min()
    plan = {"steps": 2 * ROUNDS, "delta": 1e-5, "accountant": "rdp"}
    assert part._sigmas.tolist() == [least_sigma(rate=rate, epsilon=3.0, **plan) for rate in part._rates.tolist()]
    assert result.history["epsilon"].iloc[-1] == max(
        epsilon_of(rate=rate, sigma=sigma, **plan)
        for rate, sigma in zip(part._rates.tolist(), part._sigmas.tolist(), strict=True)
    )
    steps = np.full(CLIENTS, 2 * ROUNDS)
    assert all(0.99 * 3 < part._spent(account) <= 3 for account in part._accounts(steps))


def test_other_parts_do_not_change_what_is_private_whatever_their_order(run):
    """The private part is innermost: others see its gradients alone, and their own are the same in both orders."""

    class Halving(declora.Part):
        name = "halving"

        def gradient(self, compute, state, step):
            losses = compute()
            step.gradients.mul_(0.5)
            return losses

    one, other = (run(method=parts) for parts in (["dp:sigma=1", Halving()], [Halving(), "dp:sigma=1"]))
    assert torch.equal(rows(one), rows(other))
    part = Watched(sigma=1.0)
    run(method=[part, Halving()])
    assert torch.stack(part.noise).std() == pytest.approx(1 / 4, rel=0.05)  # not halved: nobody was before it


def test_runs_of_a_comparison_do_not_share_what_a_part_learned_of_one(run):
    """All are made before the first begins, and each finds its own noise."""
    part = DifferentialPrivacy(epsilon=3.0)
    settings = {"rounds": 1, "local_steps": 1, "eval_every": 1}
    both = run(method=part, compare={"few": {"batch_size": 2}, "many": {"batch_size": 8}}, **settings)
    assert torch.equal(rows(both["few"]), rows(run(method="dp:epsilon=3", batch_size=2, **settings)))
    assert both.table["epsilon"].tolist() == [both[label].history["epsilon"].iloc[-1] for label in ("few", "many")]
    assert not hasattr(part, "_sigmas")


def test_a_part_that_cannot_be_copied_for_each_run_is_refused(run):
    class Locked(declora.Part):
        name = "locked"

        def __init__(self):
            self.lock = threading.Lock()

    with pytest.raises(ConfigError, match=r"a copy of method=.*, which cannot be made: cannot pickle"):
        run(method=Locked(), compare={"a": {}, "b": {"batch_size": 2}})


class Twice(declora.Part):
    name = "twice"

    def gradient(self, compute, state, step):
        compute()
        return compute()


def test_what_would_spend_more_than_is_accounted_for_is_refused(run):
    with pytest.raises(
        ConfigError, match="allows for one gradient a step, but another part of the method computes more"
    ):
        run(method=["dp:sigma=1", Twice()])
    often = type("Often", (Twice,), {"computes_once": False})()
    with pytest.raises(ConfigError, match="'twice' computes several gradients in a step, but 'dp:sigma=1"):
        build_method(["dp:sigma=1", often])

    class Longer(declora.Part):
        name = "longer"

        def plan(self, plan, layout):
            return Plan(plan.event, plan.phases * 2, plan.sent, plan.graph)

    with pytest.raises(
        ConfigError, match="found its noise for 2 local steps a round, but another part of the method plans"
    ):
        run(method=[Longer(), "dp:sigma=1"])


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("dp:epsilon=8,sigma=1", "epsilon=8 says how much noise there is, and so does sigma=1. Give one"),
        ("dp:epsilon=0", r"epsilon='0' must be a number above 0"),
        ("dp:epsilon=8,delta=1", r"delta='1' must be a number above 0"),
        ("dp:epsilon=8,clip=0", r"clip='0' must be a number above 0"),
        ("dp:accountant=moments", "accountant='moments' must be one of pld, rdp"),
        ("dp:sigma=-1", r"sigma='-1' must be a number of at least 0"),
        ("dp+dp-lora", "has 'dp' twice"),
    ],
)
def test_options_that_mean_nothing_are_refused(method, message):
    with pytest.raises(ConfigError, match=message):
        build_method(method)


@pytest.mark.parametrize(
    "options",
    [{"sigma": 1.0, "clip": math.inf}, {"sigma": math.nan}, {"epsilon": math.nan}, {"epsilon": 1, "delta": 2}],
)
def test_numbers_that_mean_nothing_are_refused_of_the_class_too(options):
    with pytest.raises(ConfigError, match="method='dp': "):
        DifferentialPrivacy(**options)


def test_an_accountant_that_is_not_known_is_refused_of_the_class_too():
    with pytest.raises(ConfigError, match="accountant of method dp='moments' is not known"):
        DifferentialPrivacy(accountant="moments")


def test_a_delta_that_is_lost_in_rounding_is_refused_before_training(run, monkeypatch):
    monkeypatch.setattr(Run, "_round", lambda *args: pytest.fail("a round began"))
    with pytest.raises(ConfigError, match="delta=1e-14 is lost in what accountant=pld rounds in 4 steps"):
        run(method="dp:sigma=1,delta=1e-14")


def test_a_plan_that_no_noise_keeps_within_the_budget_is_refused(run):
    with pytest.raises(ConfigError, match=r"no noise keeps 4 steps within epsilon=1e-06 at delta=1e-05"):
        run(method="dp:epsilon=1e-6")


def test_packed_rows_are_no_samples(monkeypatch):
    monkeypatch.setattr("declora.simulation.prepare", lambda config: pytest.fail("something was loaded"))
    with pytest.raises(ConfigError, match=r"packing=True puts several texts into a row, but method='dp:.* by itself"):
        declora.simulate(method="dp", packing=True)


def test_a_guess_and_a_delta_that_protects_nobody_are_said(run):
    notes = " ".join(run(method="dp:delta=0.1").notes)
    assert "says neither epsilon nor sigma: epsilon=8 is taken" in notes
    assert "with delta=0.1 and 32 samples of a client" in notes
    assert "Set delta below 0.031" in notes


def test_a_budget_is_for_the_rounds_that_were_planned(run, tmp_path, tokenizer):
    """More rounds would spend more than it, or ask for more noise in the rounds that are over."""
    settings = {"checkpoint_every": 1, "rounds": 2}
    run(method="dp:epsilon=3", out=str(tmp_path / "budget"), **settings)
    run(method="dp:sigma=2", out=str(tmp_path / "open"), **settings)
    objects = {"model": tiny_bert(), "tokenizer": tokenizer, "data": datasets.DatasetDict(
        train=tiny_texts(96), validation=tiny_texts(40, seed=1))}  # fmt: skip
    with pytest.raises(RunFolderError, match="rounds was 2 and is 3"):
        declora.resume(tmp_path / "budget", rounds=3, **objects)
    longer = declora.resume(tmp_path / "open", rounds=3, **objects)
    straight = run(method="dp:sigma=2", rounds=3)
    assert torch.equal(rows(longer), rows(straight))
    assert longer.history["epsilon"].tolist() == straight.history["epsilon"].tolist()


def test_clients_of_a_lower_rank_get_no_noise_beyond_it(run, monkeypatch):
    ranks, beyond, original = [1, 2, 2], [], Run._round

    def watched(self, event, before):
        record = original(self, event, before)
        lacking = beyond_of(self.layout, ranks, self.bank.G.device)
        beyond.append(self.bank.G[lacking].tolist())
        assert (self.bank.G[1:] != 0).all()
        return record

    monkeypatch.setattr(Run, "_round", watched)
    run(method="dp:sigma=1", ranks=ranks)
    assert all(values and not any(values) for values in beyond)


def test_it_is_written_back_with_its_options():
    assert str(build_method("dp:sigma=1.25,clip=0.1")) == "dp:sigma=1.25,delta=1e-05,clip=0.1,accountant=pld"
    assert str(build_method("dp:sigma=1,accountant=rdp")) == "dp:sigma=1,delta=1e-05,clip=1,accountant=rdp"
    assert str(build_method("dp-lora")) == "dec-lora+dp:epsilon=8,delta=1e-05,clip=1,accountant=pld"
