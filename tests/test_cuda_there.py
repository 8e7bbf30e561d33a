"""Where kernels are used: on a GPU for which Triton works, and what is said where it does not."""

import pytest
import torch

import cards
from declora import cuda
from declora.cuda import launch
from declora.cuda.kernels import floats

CPU = torch.device("cpu")


def test_a_cpu_has_no_kernels():
    assert not cuda.there(CPU)
    assert cuda.there(cards.DEVICE) == torch.cuda.is_available()


def test_a_device_is_tried_once(recwarn):
    launch._works.cache_clear()
    assert launch._works(cards.DEVICE)
    assert launch._works(cards.DEVICE)
    assert launch._works.cache_info().hits == 1
    assert not recwarn.list


def test_what_hinders_triton_is_said_and_does_not_end_the_run(monkeypatch):
    def no_compiler(*arguments, **options):
        raise RuntimeError("Failed to find C compiler.\n Please specify one.")

    launch._works.cache_clear()
    monkeypatch.setattr(floats, "encode", {(1,): no_compiler})
    with pytest.warns(UserWarning, match=r"for cpu \(Failed to find C compiler. Please specify one.\), so gossip goes"):
        assert not launch._works(CPU)
    launch._works.cache_clear()
