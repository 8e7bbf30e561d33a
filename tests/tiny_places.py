"""Folders and files under the names that pages and examples use, with tiny models and little data in them."""

import shutil
import string
from pathlib import Path

import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, processors

from tiny import SPECIAL, tiny_bert, tiny_gpt2, tiny_texts

EXAMPLES = Path(__file__).parents[1] / "examples"
ENCODERS = ("sentence-transformers/all-MiniLM-L6-v2", "google/bert_uncased_L-2_H-128_A-2")
DECODERS = ("Qwen/Qwen2.5-0.5B-Instruct",)


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
        tokenizer.save_pretrained(folder / name)
    tiny_texts(64).to_csv(folder / "texts.csv")
    shutil.copy(EXAMPLES / "messages.csv", folder)
    return folder
