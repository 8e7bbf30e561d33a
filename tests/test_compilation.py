"""Compiled blocks: few programs, however sizes and clients vary, and the same bits but for the compiler's own."""

import re

import pytest
import torch
import torch._dynamo
import transformers
from torch import nn

import declora
from declora.config import SimulationConfig
from declora.errors import ConfigError, RunFolderError
from declora.model import compilation
from declora.model.compilation import Compilation, check_compiler
from declora.prepare import prepare
from declora.run import Run
from resumable import OBJECTS, write_adapters
from test_resume import same, simulate, stop
from tiny import tiny_bert, tiny_gpt2, tiny_llama, tiny_texts

DROPPED = {"lora": {"r": 2, "lora_dropout": 0.2}}
# Model, settings, and how many programs it takes: one for the first block, whose input wants no gradient, and one for
# the others. The last block of a classifier like BERT is narrowed to first tokens by hooks, and stays as it is.
MODELS = {
    "bert": (tiny_bert, {}, 1),
    "gpt2, with LoRA dropout": (tiny_gpt2, DROPPED, 2),
    "llama, all layers": (tiny_llama, {"lora": {"r": 2, "target_modules": "all-linear"}}, 2),
}


@pytest.fixture
def programs(monkeypatch):
    """What was compiled, by a compiler that leaves everything as it is."""
    made = []

    def backend(graph, inputs):
        made.append(graph)
        return graph.forward

    monkeypatch.setattr(compilation, "BACKEND", backend)
    return made


def run_of(model, tokenizer, **settings):
    """A run of five clients in groups of two, two and one, which have unequally many texts: some wait for others."""
    few = {
        "clients": 5, "rounds": 3, "local_epochs": 1, "batch_size": 4, "group_size": 2, "learning_rate": 0.01,
        "partition": [list(range(4)), list(range(4, 5)), list(range(5, 18)), list(range(18, 27)), list(range(27, 36))],
        "client_eval_samples": 0, "eval_every": 3, "device": "cpu", "lora": {"r": 2},
    }  # fmt: skip
    task = "causal-lm" if "LM" in type(model).__name__ else "classification"
    data = tiny_texts(36).remove_columns("label") if task == "causal-lm" else tiny_texts(36)
    config = SimulationConfig(model=model, tokenizer=tokenizer, data=data, eval_data=data, task=task, **few | settings)
    return Run(config, prepare(config))


def rows_of(run, seen=lambda: None):
    """All adapters after each round."""
    rows = []
    for _ in run.rounds():
        rows.append(run.bank.P.clone())
        seen()
    assert not [module for module in run.material.base.model.modules() if "forward" in vars(module)]
    return torch.stack(rows)


@pytest.mark.parametrize("name", MODELS)
def test_all_rounds_are_computed_by_the_programs_of_the_trial_with_the_same_bits(name, tokenizer, programs):
    make, settings, count = MODELS[name]
    expected = rows_of(run_of(make(), tokenizer, **settings))
    for recompute in (False, True):
        programs.clear()
        run = run_of(make(), tokenizer, compile=True, activation_checkpointing=recompute, **settings)
        assert run.sharing.notes == ()
        assert run.sharing.unpadding is not None
        counts = [len(programs)]
        found = rows_of(run, lambda counts=counts: counts.append(len(programs)))
        assert counts == [count] * 4
        assert torch.equal(found, expected)


def test_padded_passes_need_a_few_programs_more(tokenizer, programs):
    """For a mask or none, and for one row or several, which torch tells apart: times those for a gradient or none."""
    run = run_of(tiny_bert(), tokenizer, compile=True, unpad=False, rounds=2)
    assert torch.equal(rows_of(run), rows_of(run_of(tiny_bert(), tokenizer, unpad=False, rounds=2)))
    assert 2 <= len(programs) <= 8


def test_gradients_go_through_the_graphs_that_a_compiler_gets(tokenizer, monkeypatch):
    monkeypatch.setattr(compilation, "BACKEND", "aot_eager")
    few = {**DROPPED, "rounds": 1, "activation_checkpointing": True}
    run = run_of(tiny_llama(), tokenizer, compile=True, **few)
    assert run.sharing.compilation is not None
    assert torch.equal(rows_of(run), rows_of(run_of(tiny_llama(), tokenizer, **few)))


def test_a_stopped_run_goes_on_compiled_but_not_with_other_threads(tmp_path, programs, monkeypatch):
    monkeypatch.setattr("declora.simulation.write_run", write_adapters)
    few = {"rounds": 4, "compile": True, "unpad": False}
    simulate(tmp_path / "whole", **few)
    stop(tmp_path / "run", 2, **few)
    count = len(programs)
    with monkeypatch.context() as patched:
        patched.setattr(torch, "get_num_threads", lambda: 3)
        with pytest.raises(RunFolderError, match="blocks was compiled, 1 threads and is compiled, 3 threads"):
            declora.resume(tmp_path / "run", **OBJECTS)
    declora.resume(tmp_path / "run", **OBJECTS)
    same(tmp_path / "run", tmp_path / "whole")
    assert len(programs) > count


class Branching(transformers.models.bert.modeling_bert.BertLayer):
    """What no program can hold: which way it goes is in the numbers."""

    def forward(self, hidden_states, attention_mask=None, *others, **kwargs):
        far = float(hidden_states.detach().sum()) > 1e9
        return super().forward(2 * hidden_states if far else hidden_states, attention_mask, *others, **kwargs)


def branching():
    model = tiny_bert()
    model.bert.encoder.layer = nn.ModuleList([Branching(model.config) for _ in range(2)]).eval()
    return model


def wrong(graph, inputs):
    return lambda *args: tuple(1.1 * x for x in graph(*args))


def hooked():
    model = tiny_bert()
    for block in model.bert.encoder.layer:
        block.attention.register_forward_hook(lambda module, args, output: None)
    return model


@pytest.mark.parametrize(
    ("make", "backend", "why"),
    [
        (branching, None, r"torch cannot \(.+\)"),
        (tiny_bert, wrong, "its gradients would be others"),
        (hooked, None, "it has no equal blocks without hooks inside"),
    ],
)
def test_what_cannot_be_compiled_computes_as_it_is_written_and_that_is_said(make, backend, why, tokenizer, monkeypatch):
    monkeypatch.setattr(compilation, "BACKEND", backend or "eager")
    run = run_of(make(), tokenizer, compile=True, rounds=1)
    assert run.sharing.compilation is None
    (note,) = run.sharing.notes
    assert re.fullmatch(f"The blocks of BertForSequenceClassification are not compiled: {why}\\.", note)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Tanh()

    def forward(self, x, attention_mask=None):
        return self.inner(x)


def test_a_hook_that_comes_later_is_called(programs):
    block, x, seen = Block(), torch.ones(3, 4), []
    blocks = Compilation([block], compilation.BACKEND)
    with blocks.installed():
        block(x)
    assert len(programs) == 1
    block.inner.register_forward_hook(lambda module, args, output: seen.append(module))
    with blocks.installed():
        block(x)
    assert seen == [block.inner]
    assert len(programs) == 1


def test_where_torch_would_need_too_many_programs_blocks_compute_as_they_are_written(programs):
    block, one, several = Block(), torch.ones(1, 4), torch.ones(3, 4)
    with Compilation([block], compilation.BACKEND).installed(), torch._dynamo.config.patch(recompile_limit=1):
        block(several)
        with pytest.warns(UserWarning, match="leave compile out"):
            found = block(one)
        assert torch.equal(found, one.tanh())
        assert torch.equal(block(several), several.tanh())
    assert len(programs) == 1


class Masked(nn.Module):
    def forward(self, x, attention_mask=None):
        return x.tanh() if attention_mask is None or x.sum() > 0 else x


def test_what_torch_cannot_compile_in_a_run_computes_as_it_is_written_and_in_the_trial_is_an_error(programs):
    x, mask = torch.ones(3, 4), torch.ones(3)
    tried, new = (Compilation([Masked()], compilation.BACKEND) for _ in range(2))
    tried.tried = True
    for blocks in (tried, new):
        (block,) = blocks._blocks
        with blocks.installed():
            assert torch.equal(block(x), x.tanh())
            if blocks is new:
                with pytest.raises(torch._dynamo.exc.TorchDynamoException):
                    block(x, attention_mask=mask)
                continue
            with pytest.warns(UserWarning, match=r"torch cannot compile the blocks for all .*: leave compile out"):
                found = block(x, attention_mask=mask)
            assert torch.equal(found, x.tanh())
            assert torch.equal(block(x, attention_mask=mask), x.tanh())
    assert len(programs) == 2


def test_without_gradients_nothing_is_compiled(programs):
    block = Block()
    with Compilation([block], compilation.BACKEND).installed(), torch.no_grad():
        block(torch.ones(3, 4))
    assert programs == []


@pytest.mark.parametrize(
    ("device", "variables", "said"),
    [
        ("cpu", {"CXX": "no-such-compiler"}, "CXX=no-such-compiler is not there"),
        ("cpu", {"PATH": ""}, "there is no g\\+\\+ here"),
        ("cuda", {"PATH": ""}, "there is no cc or gcc or clang here"),
    ],
)
def test_a_machine_without_a_compiler_is_told_what_to_install(device, variables, said, monkeypatch):
    monkeypatch.setattr(compilation.importlib.util, "find_spec", lambda name: name)
    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=f"compile=True needs a compiler, and {said}. Install one"):
        check_compiler(torch.device(device))


def test_a_gpu_without_triton_is_told_so(monkeypatch):
    monkeypatch.setattr(compilation.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="compile=True needs Triton"):
        check_compiler(torch.device("cuda"))


def test_the_bases_own_dropout_is_not_compiled(tokenizer):
    with pytest.raises(ConfigError, match="compile=True and base_dropout=True"):
        run_of(tiny_bert(), tokenizer, compile=True, base_dropout=True)
