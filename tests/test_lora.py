"""The setting `lora`: every field is what it can be, every name is found, and what PEFT warns of is heard."""

import datasets
import numpy as np
import peft
import pytest

import declora
from declora.errors import ModelError
from declora.model import adapter_config, load_base
from declora.model.owners import RowOwners
from declora.model.surgery import Surgery
from tiny import tiny_bert, tiny_llama, tiny_texts


@pytest.fixture
def bert(tokenizer):
    return load_base(tiny_bert(), task="classification", label_names="ab", tokenizer=tokenizer, device="cpu")


def completed(base, lora):
    return adapter_config(lora, base, peft.TaskType.SEQ_CLS)


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        ({"r": "4"}, r"lora.r='4' must be a whole number of at least 1"),
        ({"r": 0}, "lora.r=0 must be"),
        ({"r": -1}, "lora.r=-1 must be"),
        ({"r": True}, "lora.r=True must be"),
        ({"r": 4.0}, "lora.r=4.0 must be"),
        ({"r": None}, "lora.r=None must be"),
        ({"r": 10**9}, r"lora.r=1000000000 must be a whole number of at most 65,536"),
        ({"r": 10**4}, r"lora.r=10000 is more than the rows and columns .*64 at most"),
        ({"rank_pattern": {"query": 65}}, r"lora.rank_pattern\['query'\]=65 is more"),
        ({"rank_pattern": {"query": 0}}, r"lora.rank_pattern\['query'\]=0 must be a whole number"),
        ({"rank_pattern": ["query"]}, r"lora.rank_pattern=\['query'\] must be a table"),
        ({"rank_pattern": {"(query": 2}}, r"rank_pattern='\(query' is not a regular expression"),
        ({"lora_alpha": 0}, "lora.lora_alpha=0 must be a finite number above 0"),
        ({"lora_alpha": float("nan")}, "lora.lora_alpha=nan must be"),
        ({"lora_alpha": "8"}, "lora.lora_alpha='8' must be"),
        ({"alpha_pattern": {"query": -2}}, r"lora.alpha_pattern\['query'\]=-2 must be"),
        ({"lora_dropout": 1.5}, "lora.lora_dropout=1.5 must be a finite number of at least 0 and below 1"),
        ({"lora_dropout": "0.1"}, "lora.lora_dropout='0.1' must be"),
        ({"use_rslora": "no"}, "lora.use_rslora='no' must be true or false"),
        ({"target_modules": 5}, "lora"),
        ({"target_modules": [1, 2]}, r"lora.target_modules\[0\]=1 must be a name"),
        ({"target_modules": "(query"}, r"lora.target_modules='\(query' is not a regular expression"),
        ({"target_modules": ".*qery"}, r"lora.target_modules: '.*qery' is no module .* Did you mean 'query'"),
        ({"target_modules": ["query", "valeu"]}, "lora.target_modules: 'valeu' is no module .* Did you mean 'value'"),
        ({"exclude_modules": ["layer.7"]}, "lora.exclude_modules: 'layer.7' is no module"),
        ({"modules_to_save": ["poolr"]}, "lora.modules_to_save: 'poolr' is no module .* Did you mean 'pooler'"),
        ({"modules_to_save": "pooler"}, "lora.modules_to_save='pooler' must be a list of names"),
        ({"rank_pattern": {"qeury": 2}}, "lora.rank_pattern: 'qeury' is no adapted module .* Did you mean 'query'"),
        ({"rank_pattern": {"key": 2}}, "lora.rank_pattern: 'key' is no adapted module .* are named query, value"),
        ({"alpha_pattern": {"layer.9.*query": 2}}, "lora.alpha_pattern: 'layer.9"),
        ({"target_modules": ["query"], "layers_to_transform": [0, 7]}, "lora.layers_to_transform=7: no target module"),
        ({"target_modules": ["query"], "layers_to_transform": "0"}, "lora.layers_to_transform='0' must be"),
        (
            {"target_modules": ["query"], "layers_to_transform": 0, "layers_pattern": "leyer"},
            "lora.layers_pattern: 'leyer' is no module .* Did you mean 'layer'",
        ),
        ({"rang": 4}, "unexpected keyword argument 'rang'"),
        ({"task_type": "CAUSAL_LM"}, "lora.task_type='CAUSAL_LM' does not fit"),
        (8, "lora=8 must be a peft.LoraConfig or a table"),
        ("r=8", "lora='r=8' must be"),
        ([("r", 8)], "lora="),
        (None, "lora=None must be"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_by_its_field(bert, lora, message):
    with pytest.raises(ModelError, match=message) as refusal:
        completed(bert, lora)
    assert len(str(refusal.value)) < 700
    assert "\n" not in str(refusal.value)


def test_an_object_is_checked_like_a_table_and_left_as_it_is(bert):
    lora = peft.LoraConfig(r=4, target_modules=["query", "vlaue"])
    with pytest.raises(ModelError, match="'vlaue' is no module"):
        completed(bert, lora)
    assert lora.task_type is None


@pytest.mark.parametrize(
    "lora",
    [
        {"r": np.int64(4), "lora_alpha": np.float32(2), "target_modules": ["query"]},
        {"target_modules": "all-linear"},
        {"target_modules": r".*\.(query|value)"},
        {"target_modules": ["attention.self.query"], "rank_pattern": {r"layer\.1\..*query": 2}},
        {"target_modules": ["query"], "layers_to_transform": (1,), "layers_pattern": "layer"},
        {"target_modules": "all-linear", "exclude_modules": ["pooler.dense"]},
        {"modules_to_save": ["pooler"]},
    ],
    ids=str,
)
def test_what_peft_understands_runs(lora, tokenizer, tmp_path):
    data = datasets.DatasetDict(train=tiny_texts(16), validation=tiny_texts(8))
    few = {"clients": 2, "rounds": 1, "local_steps": 1, "client_eval_samples": 0, "tokenizer": tokenizer}
    result = declora.simulate(model=tiny_bert(), data=data, lora=lora, **few)
    result.average.save_pretrained(tmp_path)
    loaded = peft.PeftModel.from_pretrained(tiny_bert(), tmp_path)
    state = peft.get_peft_model_state_dict(loaded)
    assert state.keys() == result.average.state_dict().keys()


def test_adapters_of_a_tied_layer_come_with_pefts_warning_and_others_with_none(tokenizer, recwarn):
    plain = tiny_texts(16).remove_columns("label")
    few = {"clients": 2, "rounds": 1, "local_steps": 1, "client_eval_samples": 0, "tokenizer": tokenizer}
    for tied, expected in ((False, 0), (True, 1)):
        model = tiny_llama()
        if tied:
            model.config.tie_word_embeddings = True
            model.tie_weights()
        recwarn.clear()
        lora = {"r": 2, "target_modules": ["q_proj", "lm_head"]}
        declora.simulate(model=model, data=plain, eval_data=plain, lora=lora, task="causal-lm", **few)
        assert sum("tie" in str(warning.message) for warning in recwarn) == expected
        assert not [warning for warning in recwarn if "renamed from" in str(warning.message)]
        surgery = Surgery(model, peft.LoraConfig(task_type="CAUSAL_LM", **lora), RowOwners(), seed=0)
        surgery.undo()
        assert [note.split()[0] for note in surgery.notes] == ["lm_head"] * expected
