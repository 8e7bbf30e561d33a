"""Folders and files under the names that pages and examples use, with tiny models and little data in them."""

import shutil
import string
from pathlib import Path

import datasets
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, processors

from tiny import SPECIAL, tiny_bert, tiny_gpt2, tiny_texts

EXAMPLES = Path(__file__).parents[1] / "examples"
ENCODERS = ("sentence-transformers/all-MiniLM-L6-v2", "google/bert_uncased_L-2_H-128_A-2")
DECODERS = ("Qwen/Qwen2.5-0.5B-Instruct",)
CHAT = "{% for message in messages %}{{ message['content'] + eos_token }}{% endfor %}"


def letters() -> transformers.PreTrainedTokenizerFast:
    """A tokenizer that reads any text, one letter after another."""
    known = [*SPECIAL, *string.ascii_lowercase, *string.digits, *" .,?'-_+=:/"]
    core = Tokenizer(models.BPE({letter: i for i, letter in enumerate(known)}, [], unk_token="[UNK]"))
    core.normalizer, core.decoder = normalizers.Lowercase(), decoders.Fuse()
    core.post_processor = processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 2)])
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "eos_token": "[SEP]"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=core, model_max_length=48, **special)


def furnish(folder: Path) -> Path:
    """Puts models, texts and the file of the examples into a folder: who works there finds them under their names."""
    tokenizer = letters()
    # As wide as a base in 4 bits has to be.
    for name, model in [(name, tiny_bert(width=64).bert) for name in ENCODERS] + [
        (name, tiny_gpt2(width=64)) for name in DECODERS
    ]:
        model.save_pretrained(folder / name)
        tokenizer.chat_template = CHAT if name in DECODERS else None
        tokenizer.save_pretrained(folder / name)
    tiny_texts(64).to_csv(folder / "texts.csv")
    for task in ("sst2", "gsm8k"):
        (folder / "data" / task).mkdir(parents=True)
    for split, count in (("train", 64), ("validation", 16)):
        tiny_texts(count).to_csv(folder / "data" / "sst2" / f"{split}.csv")
        sums = {"question": [f"{i} + 2?" for i in range(count)], "answer": [f"#### {i + 2}" for i in range(count)]}
        datasets.Dataset.from_dict(sums).to_json(folder / "data" / "gsm8k" / f"{split}.jsonl")
    shutil.copy(EXAMPLES / "messages.csv", folder)
    return folder
