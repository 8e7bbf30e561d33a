"""One client's adapter, or the average of all, as a PEFT adapter."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, PeftModel, set_peft_model_state_dict
from transformers import PreTrainedModel

from declora import process
from declora.adapters.about import About
from declora.adapters.card import base_name, loading_code
from declora.adapters.folder import save, upload, written_config
from declora.adapters.prediction import predict
from declora.errors import ModelError, cut, shown
from declora.model import BaseModel, load_base
from declora.model.checkpoint import class_settings
from declora.model.held import held
from declora.model.layout import Layout
from declora.model.ranks import at_rank, beyond
from declora.model.surgery import wrap
from declora.notebook import facts_html
from declora.settings import loading_of
from declora.spec import described

__all__ = ["Adapter"]


@dataclass(frozen=True, eq=False, repr=False)
class Adapter:
    """One row of the adapter matrix, in PEFT's form."""

    row: torch.Tensor
    """float32 `[D]`, on the CPU."""
    layout: Layout
    config: LoraConfig
    about: About | None = None
    """Its run; None: of none, so that it has numbers to save and nothing to tell."""

    def at_rank(self, rank: int) -> "Adapter":
        """Returns the adapter of the first `rank` components of each layer, at the same scale: smaller, in PEFT's form.

        Raises:
            ModelError: Layers have ranks of their own, or not so many components.
        """
        most = max(a.shape[0] for _, a in self.layout.pairs)
        if isinstance(rank, bool) or not isinstance(rank, int | np.integer) or not 1 <= rank <= most:
            raise ModelError(f"rank={shown(rank)} must be a whole number from 1 to {most}, which the adapter has.")
        rank = int(rank)  # which PEFT writes
        kept = ~beyond(self.layout, [rank], self.row.device)[0]
        return replace(self, row=self.row[kept], layout=self.layout.at_rank(rank), config=at_rank(self.config, rank))

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Returns the tensors under PEFT's names, as `peft.get_peft_model_state_dict` would."""
        return self.layout.unflatten(self.row)

    def save_pretrained(self, path: str | Path, *, tokenizer_of: str | Path | None = None) -> Path:
        """Writes a folder that PEFT loads, with the tokenizer, and a README.md that says what it is and how to load it.

        The files are written beside `path` and moved into place, so a reader finds all or nothing new. They fit the
        base in any precision; merge them only into one in float32 or bfloat16: in 4 bits the sum is rounded again.

        Args:
            path: Folder; made where it does not exist.
            tokenizer_of: The folder of another adapter of the run, whose tokenizer files are linked instead of written
                again (hard links: one copy on the disk). Where that cannot be, README.md says where they are.

        Returns:
            The folder.

        Raises:
            RunFolderError: The folder cannot be written.
        """
        return save(self.state_dict(), self.config, self.about, Path(path).expanduser(), tokenizer_of=tokenizer_of)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str | None = None,
        private: bool | None = None,
        token: bool | str | None = None,
        revision: str | None = None,
        create_pr: bool = False,
    ) -> Any:
        """Uploads what `save_pretrained` writes to the Hugging Face hub, as PEFT's own `push_to_hub` does.

        A base that is a folder of this machine is not named there: README.md says which it was.

        Args:
            repo_id: `"organization/name"`; made where it does not exist.
            commit_message: Of the upload.
            private: Whether a new repository is private; None: as the organization has it.
            token: None or True: that of `hf auth login`.
            revision: Branch.
            create_pr: Whether to open a pull request instead.

        Returns:
            What `HfApi.upload_folder` does: the commit.

        Raises:
            ModelError: This adapter is of no run.
        """
        about = self._about("upload")
        return upload(
            self.state_dict(),
            self.config,
            about,
            repo_id,
            commit_message=commit_message or f"Upload the {about.title}",
            private=private,
            token=token,
            revision=revision,
            create_pr=create_pr,
        )

    def loading_code(self, folder: str | Path) -> str:
        """Returns lines of Python that load this adapter where it was saved; they need PEFT and transformers alone.

        Args:
            folder: What `save_pretrained` was given, or a name on the hub.

        Raises:
            ModelError: This adapter is of no run.
        """
        return "\n".join(loading_code(self._about("say how it loads"), written_config(self.config), ".", str(folder)))

    def to_peft(self, base: PreTrainedModel | None = None) -> PeftModel:
        """Returns the adapter as a loaded `PeftModel`, ready to be asked; `merge_and_unload()` makes one model of both.

        Args:
            base: What to put it over. It is changed, as PEFT changes what it wraps. None: the base of the run is
                loaded again by the run's settings; of a model that was passed as an object a copy is made, and the
                object stays as it is.

        Raises:
            ModelError: The base cannot be loaded again, or is no model of transformers, or one of other shapes or
                classes.
        """
        if base is not None and not isinstance(base, PreTrainedModel):
            unwrapped = " Of a PEFT model give base.unload()." if isinstance(base, PeftModel) else ""
            raise ModelError(f"base is {described(base)}; it must be a loaded model of transformers.{unwrapped}")
        with process.usual_torch():
            return self._over(self._own_base("find its base").model if base is None else base)

    def _over(self, base: PreTrainedModel) -> PeftModel:
        config = written_config(self.config)
        names = () if self.about is None else self.about.lineage.text.label_names
        if names and base.config.num_labels != len(names):
            raise ModelError(
                f"base={type(base).__name__} has a head for {base.config.num_labels} classes, the adapter has "
                f"{len(names)}. Load it with num_labels={len(names)}."
            )
        model = wrap(base, config, 0)
        model.peft_config["default"].base_model_name_or_path = config.base_model_name_or_path
        try:
            set_peft_model_state_dict(model, self.state_dict())
        except RuntimeError as error:
            model.unload()
            raise ModelError(
                f"the adapter does not fit base={type(base).__name__}: {cut(error)}. Give one of the run's shapes."
            ) from error
        return model.eval()

    def predict(
        self, texts: Sequence[str | Sequence[str] | Mapping[str, Any]], *, max_new_tokens: int | None = None
    ) -> list[str]:
        """Returns a class name for each text or, of a causal LM, what it writes next (the most likely token each time).

        Computed as the run evaluates, on the device of the run. The base is loaded for the first call and kept with
        this object, so keep it: `adapter = result.average`. A model that was passed as an object is used where it is,
        and given back as it was.

        Args:
            texts: What the data's text columns hold: a text each or, where there are two columns, a pair (or a table
                by column names). Of a causal LM trained on prompts, what fills the prompt; on conversations, a
                question, or the messages so far.
            max_new_tokens: Of each answer; None: as in the run, 64 where it generated none.

        Raises:
            ConfigError: `max_new_tokens` is no whole number of at least 1.
            DataError: Something in `texts` does not fit the columns.
            ModelError: The base cannot be loaded again, or has no room for a text and its answer.
        """
        about = self._about("predict")
        with held([about.settings.model]), process.usual_torch():
            base = self._base
            with held([base.model] if base.model is not about.settings.model else []):
                return predict(base, self.row, self.config, about, texts, max_new_tokens=max_new_tokens)

    @cached_property
    def _base(self) -> BaseModel:
        return self._loaded("predict")

    def _own_base(self, what: str) -> BaseModel:
        """Returns a base that is nobody else's."""
        about = self._about(what)
        with held([about.settings.model]):
            base = self._loaded(what)
            if base.model is about.settings.model:
                base = replace(base, model=copy.deepcopy(base.model))
        if names := about.lineage.text.label_names:
            base.model.config.update(class_settings(names))
        return base

    @process.alone()
    def _loaded(self, what: str) -> BaseModel:
        about = self._about(what)
        settings, text = about.settings, about.lineage.text
        return load_base(
            settings.model,
            task=text.task,
            label_names=text.label_names,
            tokenizer=about.lineage.tokenizer,
            **loading_of(settings),
        )

    def _about(self, what: str) -> About:
        if self.about is None:
            raise ModelError(
                f"this adapter is of no run, and cannot {what} by itself. Use one of a result (result.average), or "
                "load its folder with PEFT."
            )
        return self.about

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles without what was loaded to predict, and without the other clients' rows beside its own."""
        state = {field.name: getattr(self, field.name) for field in fields(self)}
        return state | {"row": self.row.clone()}

    def facts(self) -> dict[str, str]:
        """Returns what is worth knowing of it."""
        ranks = {a.shape[0] for _, a in self.layout.pairs}
        own = {
            "numbers": f"{self.layout.columns:,}",
            "LoRA": f"rank {_range(ranks)}, {len(self.layout.pairs)} layers",
        }
        if self.about is None:
            return own
        return {"base": base_name(self.about.lineage.source), **own, **self.about.facts}

    def __repr__(self) -> str:
        """What it is, in one line."""
        title = "of no run" if self.about is None else self.about.title
        over = "" if self.about is None else f" over {base_name(self.about.lineage.source)}"
        return f"<Adapter: {title}{over}, {self.facts()['LoRA']}, {self.layout.columns:,} numbers>"

    def _repr_html_(self) -> str:
        return facts_html("Adapter" if self.about is None else self.about.title.capitalize(), self.facts())


def _range(values: Iterable[int]) -> str:
    low, *_, high = sorted([*values] * 2)
    return f"{low}" if low == high else f"{low} to {high}"
