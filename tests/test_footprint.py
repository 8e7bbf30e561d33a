"""A run that is larger than all memory is refused with its numbers, before it takes any."""

import pytest
import torch

import declora
from declora.errors import ConfigError
from declora.train import footprint
from declora.train.footprint import check_fits
from tiny import tiny_bert, tiny_gpt2

CPU = torch.device("cpu")
FITS = {"clients": 10, "columns": 1000, "batch_size": 8, "length": 10.0, "device": CPU}


@pytest.fixture
def machine(monkeypatch):
    """Sets how many bytes the machine has."""
    return lambda size: monkeypatch.setattr(footprint, "_memory_of", lambda device: size)


def test_rows_need_sixteen_bytes_a_parameter(machine):
    machine(10 * 1000 * 16)
    check_fits(tiny_bert(), **FITS)
    machine(10 * 1000 * 16 - 1)
    with pytest.raises(ConfigError, match=r"clients=10 with 1,000 trained parameters .* Use fewer clients"):
        check_fits(tiny_bert(), **FITS)


@pytest.mark.parametrize("make", [tiny_bert, tiny_gpt2])
@pytest.mark.parametrize(("recompute", "values"), [(False, 17), (True, 1)])
def test_a_step_needs_a_quarter_of_its_activations_at_least(machine, make, recompute, values):
    """17 float32 values per hidden unit (32) and layer (2), or where they are computed again what goes into a layer."""
    step = 10_000 * 10 * (values * 4 * 32 * 2) // 4
    options = {**FITS, "batch_size": 10_000, "recompute": recompute}
    machine(step)
    check_fits(make(), **options)
    machine(step - 1)
    with pytest.raises(ConfigError, match=r"batch_size: 10000 samples of 10 tokens .* Lower batch_size") as caught:
        check_fits(make(), **options)
    assert ("set activation_checkpointing=true" in str(caught.value)) != recompute


def test_the_machine_has_memory():
    assert 2**28 < footprint._memory_of(CPU) < 2**50


def test_a_refused_run_gives_the_model_its_own_layers_back(machine, tokenizer, texts):
    machine(1000)
    model = tiny_bert()
    with pytest.raises(ConfigError, match="cpu has"):
        declora.simulate(model=model, tokenizer=tokenizer, data=texts, clients=2, max_length=32)
    assert type(model.classifier) is torch.nn.Linear
