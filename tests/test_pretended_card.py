"""Runs on a card that is not there (`pretended_card.py`): no tensor meets one of the CPU, and no step waits for it."""

import copy
from collections import Counter

import datasets
import numpy as np
import pytest
import torch

import resumable
import tiny
from declora import cuda, resume, simulate
from declora.config import SimulationConfig
from declora.model.load import resolve_device
from declora.prepare import prepare
from declora.run import Run
from declora.train.local_steps import LocalTrainer
from pretended_card import CARD, Misplaced, OnCard, pretended

pytestmark = pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning", "ignore:overflow:RuntimeWarning")

# Sums in another order: of float32, at most 1.4e-5 where products are factored again.
CLOSE = 1e-4
TEXTS = datasets.DatasetDict(train=tiny.tiny_texts(48), validation=tiny.tiny_texts(4, seed=1))
RUNS = {
    "kernels": {"codec": "q4", "kernels": True, "rounds": 1, "client_eval_samples": 0},
    "server": {"method": "fedavg", "codec": "q4", "kernels": True, "rounds": 1, "client_eval_samples": 0},
    "overlap": {"overlap": True, "codec": "q4+choco"},
    "columns": {"method": "rolora", "codec": "q4+choco", "unpad": False},
    "dp": {"method": "dp:sigma=1"},
    "hafl": {"method": "hafl", "codec": "none", "ranks": [1, 2, 4, 2]},
    "dis-pfl": {"method": "dis-pfl:regrow=gradient,unit=component", "optimizer": "sgd"},
    "hetlora": {"method": "hetlora:gamma=0.5,decay=0.5", "ranks": [1, 2, 4, 4]},
    "kd": {"method": "kd"},
    "fola": {"method": "fola"},
    "fedex-lora": {"method": "fedex-lora:residual=2"},
    "words": {
        "task": "causal-lm", "model": tiny.tiny_gpt2(width=16), "data": TEXTS.remove_columns("label"), "lora": {"r": 2},
        "activation_checkpointing": True,
    },
}  # fmt: skip


def run_on(device, settings):
    objects = {**resumable.OBJECTS, **resumable.SETTINGS, "model": copy.deepcopy(resumable.OBJECTS["model"])}
    config = SimulationConfig(
        **objects | {"rounds": 2, "checkpoint_every": None, "client_eval_samples": 2} | settings, device=device
    )
    return Run(config, prepare(config)).execute()


@pytest.mark.parametrize("name", RUNS)
def test_a_run_mixes_no_devices_waits_in_no_step_and_ends_as_on_a_cpu(name, monkeypatch):
    settings, often = {"local_steps": 3, **RUNS[name]}, Counter()
    train = LocalTrainer.run

    def counted(trainer, *arguments):
        before = Counter(card.waits)
        found = train(trainer, *arguments)
        # transformers looks in each pass whether there is padding.
        ours = {where: n for where, n in (card.waits - before).items() if "at masking_utils.py" not in where}
        often.update({where: n for where, n in ours.items() if n > 1})
        return found

    with pretended(monkeypatch, kernels=settings.pop("kernels", False)) as card:
        monkeypatch.setattr(LocalTrainer, "run", counted)
        found = run_on("cuda", settings)
    monkeypatch.undo()
    expected = run_on("cpu", settings)
    assert not isinstance(found.rows, OnCard)
    far = (found.rows - expected.rows).abs().max() / (expected.rows - expected.initial).abs().max()
    assert far < CLOSE
    np.testing.assert_allclose(found.history["average_loss"], expected.history["average_loss"], rtol=1e-4)
    assert not often


def test_a_run_that_goes_on_and_its_adapters_are_those_of_one_never_stopped(tmp_path, monkeypatch, texts):
    rows = datasets.Dataset.from_dict({"question": texts["validation"]["text"], "answer": texts["train"]["text"][:40]})
    settings = {
        **resumable.SETTINGS, "model": str(tmp_path / "base"), "tokenizer": tiny.tiny_tokenizer(), "lora": {"r": 2},
        "data": datasets.DatasetDict(train=rows, validation=rows), "method": "gradient-tracking", "device": "cuda",
        "eval_samples": 3, "client_eval_samples": 0, "max_length": 24, "max_new_tokens": 2, "eval_every": 2,
        "checkpoint_every": 1, "schedule": "constant", "warmup": 0.0,
    }  # fmt: skip
    tiny.tiny_gpt2(width=16).save_pretrained(tmp_path / "base")
    with pretended(monkeypatch, kernels=False):
        simulate(**settings | {"rounds": 1}, out=tmp_path / "run")
        result = resume(tmp_path / "run", rounds=2, **{name: settings[name] for name in ("tokenizer", "data")})
        whole = simulate(**settings | {"rounds": 2, "checkpoint_every": None})
        answers = result.average.predict(["w1 w2", "w3"], max_new_tokens=2)
        loaded = result.client(1).to_peft()
        logits = loaded(input_ids=torch.tensor([[5, 6]], device=loaded.device)).logits
    assert "average_exact_match" in result.history
    assert torch.equal(result.average.row, whole.average.row)
    assert len(answers) == 2
    assert logits.device == CARD
    assert not isinstance(result.client(1).row, OnCard)


def test_what_a_gpu_refuses_or_waits_for_is_found(monkeypatch):
    with pretended(monkeypatch, kernels=False) as card:
        x = torch.zeros(2, 3, device="cuda")
        assert (x.device, x.is_cuda, (x + 1).device, x.cpu().device.type) == (CARD, True, CARD, "cpu")
        for wrong in (
            lambda: x + torch.ones(3),
            lambda: torch.cat([x, torch.ones(2, 3)]),
            lambda: x.numpy(),
            lambda: np.asarray(x),
            lambda: torch.randn(2, device="cuda", generator=torch.Generator()),
            lambda: torch.nn.functional.linear(x, torch.ones(4, 3)),
        ):
            with pytest.raises(Misplaced):
                wrong()
        assert (x + torch.tensor(1.0)).tolist() == [[1.0] * 3] * 2  # numbers may be anywhere

        card.waits.clear()
        y = cuda.to_device(np.ones((2, 3), np.float32), x.device)
        y.requires_grad_().sum().backward()
        x.copy_(y.grad).index_select(0, cuda.to_device(np.array([1]), CARD))
        assert not card.waits
        for slow in (
            lambda: x[x > 0],
            lambda: x[torch.tensor([1])],
            lambda: x.sum().item(),
            lambda: x.new_tensor([1.0]),
        ):
            before = card.waits.total()
            slow()
            assert card.waits.total() > before

        pinned = torch.empty(3, pin_memory=True).fill_(1.0)
        x[0].copy_(pinned, non_blocking=True)
        pinned.fill_(2.0)
        with pytest.raises(Misplaced, match="before its copy"):
            x.cpu()


def test_ranks_of_a_machine_take_a_card_each(monkeypatch):
    with pretended(monkeypatch, kernels=False):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        assert [str(resolve_device(name)) for name in ("auto", "cuda", "cuda:1")] == ["cuda", "cuda", "cuda:1"]
        monkeypatch.setenv("WORLD_SIZE", "4")
        for rank, card in enumerate(["cuda", "cuda:1", "cuda", "cuda:1"]):
            monkeypatch.setenv("LOCAL_RANK", str(rank))
            assert [str(resolve_device(name)) for name in ("auto", "cuda")] == [card] * 2
        assert [str(resolve_device(name)) for name in ("cuda:0", "cpu")] == ["cuda:0", "cpu"]
