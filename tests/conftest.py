"""What the tests share: how they run, fixtures, and where the real data is.

The models and data of tiny.py, and all that these load, are for processes that run tests: where there are several, the
one that hands tests out to them has no use for torch.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import datasets
    import transformers

    import declora

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# For libraries that read it when they are loaded: matrices are small here, and the other core is another process's.
os.environ["OMP_NUM_THREADS"] = "1"

# Where tests marked `gpu` compute. DECLORA_TEST_DEVICE=cpu runs them without a card, to see that they themselves work.
DEVICE = os.environ.get("DECLORA_TEST_DEVICE", "cuda")

REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_configure(config: pytest.Config) -> None:
    """Loads what tests need, in a process that runs them.

    Figures are not drawn, which is nearly all the time of a tiny run: who looks at them asks for `pictures`.
    """
    if config.getoption("dist", "no") != "no":  # of pytest-xdist, which says "no" to its workers, too
        return
    gc.disable()  # until all is loaded, of which nothing is garbage
    import hypothesis

    import tiny

    # The same cases in every run, on every machine, however slow.
    hypothesis.settings.register_profile("same", derandomize=True, deadline=None)
    hypothesis.settings.load_profile("same")
    tiny.Figure.savefig = tiny.save_empty


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Has tests of real data begin: they are the longest, and at the end one process would wait for another's."""
    items.sort(key=lambda item: "real_data" not in getattr(item, "fixturenames", ()))


def pytest_collection_finish() -> None:
    """Collects garbage from here on, among what tests leave."""
    gc.freeze()
    gc.enable()


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and DEVICE.startswith("cuda"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("torch sees no CUDA GPU here")


@pytest.fixture(scope="session")
def real_data() -> Path:
    if not REAL_DATA.is_dir():
        pytest.skip(f"the real text tasks are not at {REAL_DATA}")
    return REAL_DATA


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are drawn."""
    import tiny

    monkeypatch.setattr(tiny.Figure, "savefig", tiny.draw)


@pytest.fixture
def tokenizer() -> transformers.PreTrainedTokenizerFast:
    import tiny

    return tiny.tiny_tokenizer()


@pytest.fixture
def texts() -> datasets.DatasetDict:
    from tiny import datasets, tiny_texts

    return datasets.DatasetDict(train=tiny_texts(96), validation=tiny_texts(40, seed=1))


@pytest.fixture
def tiny_run(tokenizer: transformers.PreTrainedTokenizerFast) -> Callable[..., declora.SimulationResult]:
    """Returns `simulate` for four clients of a tiny model whose messages lose nothing; only their average is scored."""
    import declora
    from tiny import datasets, tiny_bert, tiny_texts

    defaults = {
        "model": tiny_bert(), "tokenizer": tokenizer, "clients": 4, "rounds": 3, "local_steps": 2, "batch_size": 4,
        "data": datasets.DatasetDict(train=tiny_texts(48), validation=tiny_texts(8)), "codec": "none",
        "lora": {"r": 2, "target_modules": ["query", "value"]}, "client_eval_samples": 0, "progress": False,
    }  # fmt: skip
    return partial(declora.simulate, **defaults)
