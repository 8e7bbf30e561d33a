"""Holds the configuration of a run: what `declora.simulate` takes, `run.toml` holds and the command line overrides."""

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from declora.attacks import parse_attack
from declora.callbacks import REPORTERS, Callback, check_callback
from declora.clock import parse_clock
from declora.codec import parse_codec
from declora.data.client_files import check_client_files
from declora.detection import parse_detector
from declora.errors import ConfigError, DataError, ModelError, TopologyError, shown, unknown_name
from declora.faults import parse_faults
from declora.fields import LOADED, SHARED, Section, list_fields, read_fields
from declora.kinds import (
    LORA_FIELDS,
    Choice,
    Choices,
    Given,
    Name,
    Objects,
    Place,
    Real,
    Source,
    Table,
    Tables,
    Text,
    Texts,
    Whole,
    Wholes,
    one_of_all,
)
from declora.methods import build_method
from declora.metrics import METRICS
from declora.mixer import parse_mixer
from declora.stored import describe
from declora.synonyms import SYNONYMS
from declora.topology.names import check_spec
from declora.topology.weights import check_rule

__all__ = ["DEFAULTS", "DEFAULT_LOCAL_STEPS", "OUTPUT", "SETTINGS", "SimulationConfig", "unknown_setting"]

DEFAULT_LOCAL_STEPS = 5
"""K where neither `local_steps` nor `local_epochs` is set."""
_MILLION = 10**6
"""More of anything that is computed one by one is a slip of the keyboard, and would never end."""


def _read_partition(text: str) -> None:
    from declora.data import parse_partition  # loads `datasets`, which takes seconds

    parse_partition(text)


def _read_template(text: str) -> None:
    from declora.data.prompts import template_fields  # likewise

    template_fields(text)


def _read_device(text: str) -> None:
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", text):
        raise ConfigError(f"device={shown(text)} is not known. Use 'auto', 'cpu', 'cuda' or 'cuda:N'.")


@dataclass(frozen=True, kw_only=True)
class SimulationConfig:
    """Holds every setting of `declora.simulate`. The defaults are the embedded run, which needs no download."""

    _data: ClassVar = Section("Data", "What is learned, and how it is read.")

    data: Annotated[Any, Source(DataError), LOADED] = "stdlib-docstrings"
    """A task ("sst2" from the hub, "sst2=PATH" from files), hub name ("name" or "name:config"), file (csv, tsv, json,
    jsonl, txt, parquet), folder, `datasets.Dataset`/`DatasetDict`, `pandas.DataFrame`, a list of row dicts, or a list
    with one of these per client. "{client}/train.csv", with the client's number from 0 on, or a table from clients'
    names to paths: a file of each client, which is read only where the client is. "stdlib-docstrings" needs no
    download: docstrings of Python's own library, to be told apart by subject. Tasks: sst2, mrpc, cola, qnli, qqp, mnli,
    rte, boolq, wic, copa, ag_news, gsm8k."""
    task: Annotated[Literal["classification", "causal-lm"] | None, LOADED] = None
    """classification or causal-lm; none: classification where there is a label column, else causal-lm where no other
    column may be a label."""
    text_columns: Annotated[Any | None, Texts(), LOADED] = None
    """Names of the text columns; none: found by their usual names."""
    label_column: Annotated[str | None, LOADED] = None
    """Name of the label column; none: found by its usual names."""
    completion_column: Annotated[str | None, LOADED] = None
    """Name of the column that continues the prompt in the text columns (causal-lm); none: found by its usual names."""
    prompt_template: Annotated[str | None, Name(_read_template), LOADED] = None
    """How a prompt is written: a text with columns in braces ("Question: {question}\\nAnswer: "); "chat": as the user's
    turn in the tokenizer's chat template; none: the text columns, one a line."""
    completion_only_loss: Annotated[bool, LOADED] = True
    """Whether only completions (in conversations the assistant's turns) are learned and scored, not prompts."""
    packing: Annotated[bool, LOADED] = False
    """Whether texts of a client share rows of max_length tokens: prompts with their completions whole and without
    seeing each other, plain text as one stream cut into rows. batch_size then counts rows."""
    max_length: Annotated[int, Whole(1, 10 * _MILLION), LOADED] = 128
    """Tokens after which a text is cut."""

    public_data: Annotated[Any | None, Source(DataError), LOADED] = None
    """Texts that all clients have beside their own data, to classify, for methods that exchange what clients make of
    them (kd): anything that `data` can be, with the same text columns; labels are not read. None: there are none."""
    public_samples: Annotated[int | None, Whole(1), LOADED] = 200
    """Rows of public_data that are used, drawn by the seed and the same for all clients; none: all."""

    _model: ClassVar = Section("Model", "The frozen base, and the adapter that each client trains.")

    model: Annotated[Any, Given(Place(), ModelError), LOADED] = "minilm"
    """Hub id, path of a saved model, or a `PreTrainedModel`; "minilm" is all-MiniLM-L6-v2. The path of a config.json,
    or a `PretrainedConfig`: that architecture with random weights, drawn from the seed."""
    lora: Annotated[Any, Tables("peft.LoraConfig", ModelError, **LORA_FIELDS)] = field(default_factory=lambda: {"r": 8})
    """A `peft.LoraConfig`, or a table of its fields. In a table, lora_alpha defaults to r, so that the scale is 1;
    target_modules to PEFT's choice for the kind of model (query and value; q_proj and v_proj; c_attn ...), or where it
    has none to all linear layers. A list gives each client its own, which may differ in r, at one scale lora_alpha / r;
    it is kept as `ranks`. Adapters are float32 over any base."""
    ranks: Annotated[Any | None, Wholes(1, 2**16)] = None
    """Each client's own rank ([4, 8, 16, ...]), at the scale lora_alpha / r of `lora`; none: all have `lora`'s r."""
    tokenizer: Annotated[Any | None, Given(Place(), ModelError), LOADED] = None
    """A tokenizer, its path or hub id; none: the model's own."""
    trust_remote_code: Annotated[bool, LOADED] = False
    """Whether Python code that comes with a model or tokenizer may run; false: one that needs it is refused."""
    dtype: Annotated[Literal["float32", "bfloat16", "float16", "auto"] | None, LOADED] = None
    """Of the frozen base; auto: float32 or bfloat16, the faster here, measured; none: float32, or a loaded model's."""
    load_in_4bit: Annotated[bool, LOADED] = False
    """Whether the frozen base is held in 4 bits as in QLoRA (needs bitsandbytes): NF4, its scales quantized once more;
    `dtype` is that of its other weights. Adapters and messages are as without."""
    quantization_config: Annotated[Any | None, Table("transformers.BitsAndBytesConfig"), LOADED] = None
    """How, where not as in QLoRA: a `transformers.BitsAndBytesConfig`, or a table of its fields."""
    device: Annotated[str, Name(_read_device), LOADED] = "auto"
    """auto (a GPU where there is one), cpu, cuda, cuda:N."""

    _federation: ClassVar = Section("Federation", "Who takes part, with which data, and who talks to whom.")

    clients: Annotated[int, Whole(1, _MILLION)] = 10
    """Number of clients, at most as many as there are training rows."""
    partition: Annotated[Any | None, Given(Name(_read_partition))] = None
    """iid, dirichlet:ALPHA, shards:S, quantity:ALPHA, column:NAME, natural (as given, a list with one per client), or
    labels:[[..], ..], each client's proportions of the labels, which may be an array, too; a list with each client's
    row numbers; or a function of your own, see `declora.Partitioner`; none: natural where the data is such a list, else
    iid."""
    topology: Annotated[Any, Given(Name(check_spec, paths=True), TopologyError)] = "ring"
    """Name ("ring", "erdos-renyi:0.5" ...), file (graph.graphml; edges.csv with columns source, target; a mixing matrix
    as csv, npy, npz), `networkx` graph, mixing matrix (numpy, scipy), `declora.Topology`; for graphs that change a list
    of graphs or matrices, a function of (round, clients, generator), or a schedule, see `declora.GraphSchedule`."""
    weights: Annotated[str | None, Name(check_rule)] = None
    """Mixing weights of a graph: metropolis, uniform (regular graphs), laplacian (the paper's: I - 2L/3lambda_max) or
    samples (metropolis weights changed to keep the mean weighted by each client's samples, which is then the averaged
    model); of fedavg's server: samples (n_k / n) or uniform (1 / n). None: metropolis, and samples for fedavg."""
    method: Annotated[Any, Given(Name(build_method), judge=build_method)] = "dec-lora"
    """dec-lora, centralized (pooled data, with batches as large as all clients' together, so as many samples a round),
    fedavg (exact average by a server, weighted by samples), local (no gossip); ffa-lora (A stays as it was drawn),
    decaf (products B A are averaged, and factored again at each client's rank; fedavg+decaf:left=1 is FlexLoRA),
    adf-lora[:interval=5], tad-lora[:interval=N] and rolora[:interval=1] (B is trained for so many rounds, then A),
    gradient-tracking, d2 (against the bias of unlike data), dp:epsilon=8 (differential privacy) and others: `declora
    methods` lists all; several parts joined by +; or a `declora.Part` of yours."""
    compare: Annotated[Any | None, Given(Text()), SHARED] = None
    """Several runs from the same seeds: method names, each with overrides if need be ("dec-lora codec=none"), in a list
    or in one text with commas; or labels with their settings."""
    seed: Annotated[int, Whole(0, 2**64 - 1), LOADED] = 0
    """Names every random choice of the run; below 2^64."""

    _training: ClassVar = Section("Training", "What each client does between two exchanges, and how it is computed.")

    rounds: Annotated[int, Whole(1, _MILLION)] = 20
    """Rounds of local steps and gossip (T)."""
    local_steps: Annotated[int | None, Whole(1, _MILLION)] = None
    """Optimizer steps of each client in a round (K); none: as `local_epochs` says, 5 where that is none, too."""
    local_epochs: Annotated[int | None, Whole(1, _MILLION)] = None
    """Passes of each client over its own data in a round, instead of `local_steps`: ceil(samples / batch_size) steps
    each, the last of a pass on what is left. A client that is done waits for the others."""
    batch_size: Annotated[int, Whole(1, _MILLION)] = 8
    """Samples of one client's local step. Where a client has fewer, they repeat (with `local_epochs` they do not)."""
    learning_rate: Annotated[float, Real(above=0)] = 5e-3
    """Peak learning rate."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """adamw or sgd."""
    weight_decay: Annotated[float, Real(least=0)] = 0.0
    """Decoupled (adamw) or L2 (sgd), of matrices; biases and scales of norms have none, as in transformers' Trainer."""
    momentum: Annotated[float, Real(least=0, below=1)] = 0.0
    """Of sgd; adamw has moments of its own, on which this has no effect."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """What follows the warm-up: linear or cosine, both down to 0, or constant; over all local steps of a client."""
    warmup: Annotated[float, Real(least=0, most=1)] = 0.06
    """Share of the steps, rounded to whole ones, in which the learning rate rises to its peak. As transformers does it,
    step s of a warm-up of w (from 0 on) has s/w of the peak, so that the first does not move anything: of a warm-up of
    one step that is all."""
    clip_norm: Annotated[float | None, Real(above=0)] = 1.0
    """Largest gradient norm of one client's step; none: no clipping."""
    reset_moments: bool = False
    """Whether every round starts with fresh optimizer moments (and momentum); the schedule goes on."""
    base_dropout: bool = False
    """Whether the frozen base keeps its own dropout in training. LoRA dropout is as configured."""
    group_size: Annotated[int | None, Whole(1, _MILLION)] = None
    """Clients computed together; none: on a CPU chosen from the sizes of model, batch and texts, since the last bits of
    a result depend on it, and on a GPU as many as a step of one and of two leaves memory for."""
    activation_checkpointing: bool | None = None
    """Whether blocks keep nothing of a step but what goes into them, and compute the rest again for the gradient: less
    memory for another pass forward, and the same results; none: on a GPU, where one client's step would not fit."""
    tf32: bool = False
    """Whether a GPU rounds what it multiplies in float32 to TensorFloat-32, which is faster and has 10 bits after the
    point; also what other threads multiply meanwhile. On a CPU it has no effect."""
    compile: bool = False
    """Whether torch compiles the base's blocks for training: fewer kernels on a GPU, after a minute; other bits."""
    unpad: bool = True
    """Whether blocks compute sequences without their padding, in training and evaluation, where the model allows it."""
    sort_by_length: bool = True
    """Whether, where padding stays, a group's sequences are sorted by length across clients and computed in slices."""

    _messages: ClassVar = Section(
        "Messages", "How adapters become bytes, who lies, and how a client combines what arrives."
    )

    codec: Annotated[Any, Given(Name(parse_codec), judge=parse_codec)] = "q4"
    """none, fp16, bf16, q2..q8, qsgd, natural, eden, drive, randk; with a memory (+choco, +ef21, +ef) also sign, topk,
    powersgd; with options: "topk:fraction=0.01+choco", "q4:block=64"; with an entropy coder: "q2+rans". Or a codec
    of your own, see `declora.Codec`."""
    mixer: Annotated[Any, Given(Name(parse_mixer), judge=parse_mixer)] = "linear"
    """linear, clipped[:f=1|:tau=X], trimmed-mean:f=1, median, krum:f=1, multi-krum:f=1,m=2, nna:f=1 (f: neighbours of a
    client that may be bad), or push-sum, for any strongly connected digraph. Or a mixer of your own, see
    `declora.Mixer`."""
    gamma: Annotated[float | None, Real(above=0, most=1)] = None
    """Consensus step size; none: the codec's own, 1 where it loses little (q4 to q8, eden) and less where it loses more
    (q3 0.73, q2 0.17, drive 0.41, randk 0.0025), with a memory or without."""
    overlap: bool = False
    """Whether messages go while the local steps of their round are taken, which hides the time of a network: a client
    moves by its steps, and by what gossip does to what it had before them (arXiv 1705.09056). The steps of the last
    round are averaged with nobody's."""
    attack: str | None = None
    """What some clients send instead of their adapter: sign-flip, alie, ipm, gaussian, dissensus (all with :scale=S),
    mimic (with :target=C), stale, replay (both with :delay=N), lazy (with :noise=S), crafted, nan, inf. The others are
    what is evaluated then; none: all are honest."""
    attackers: Annotated[Any, Wholes(0)] = 1
    """How many clients attack, chosen by the seed, or which ones ([3, 7]); nobody without `attack`."""
    faults: Annotated[str | None, Name(parse_faults)] = None
    """What goes wrong, as the seed says, joined by +, with p=P,rounds=N: loss:p=P (messages get lost), delay (come
    rounds late), duplicate (twice), reorder (after later ones), dropout (clients go away, for N rounds),
    partition:start=R,rounds=N,parts=2 (no message goes from one part of the clients to another in the rounds from R
    on). Weights of what does not arrive stay at home, on both ends."""
    clock: Annotated[str | None, Name(parse_clock)] = None
    """How many seconds rounds would take, `simulated_seconds` in the history: lognormal, around the medians step=0.1
    (seconds of a local step), latency=0.05 and bandwidth=1.25e6 (bytes a second) of a link, with spread=0 of clients
    and links=0 of links; or trace:FILE, a CSV file client,step,latency,bandwidth. Both also with stragglers=P,slower=10
    (rounds of a client that take longer) and wait=1 (for what was lost)."""
    detect: Annotated[str | None, Name(parse_detector)] = None
    """What clients look for in what they hear: lazy[:below=R], a neighbour's message that is nearer to one's own of the
    round before than R times as far as one moved since, so a copy of it. Who is suspected is said, and nothing else
    done; none: nobody looks."""

    peer_timeout: Annotated[float, Real(above=0, most=_MILLION)] = 60.0
    """Seconds of silence after which a rank of a cluster (processes that torchrun started) is lost, and the others go
    on without it; what is computed meanwhile takes as long as it takes."""

    _evaluation: ClassVar = Section("Evaluation", "When, on what and by what the models are scored.")

    eval_data: Annotated[Any | None, Source(DataError), LOADED] = None
    """Data to evaluate on; held-out: an `eval_fraction` of the training rows; none: the data's validation or test
    split, else held-out. Where data is a file of each client, this may be, too: each is evaluated where it is."""
    eval_fraction: Annotated[float, Real(above=0, below=1), LOADED] = 0.1
    """Share of each class that is held out where the data has no evaluation split."""
    eval_every: Annotated[int, Whole(1)] = 5
    """Rounds between evaluations; the last round is always evaluated."""
    eval_samples: Annotated[int | None, Whole(1)] = None
    """Samples the averaged model is evaluated on (of each client, where these have their own); none: all."""
    client_eval_samples: Annotated[int | None, Whole(0)] = 200
    """Samples each client's own model is evaluated on (the same for all, or its own); none: all; 0: it is not."""
    metric: Annotated[str | None, Choice(METRICS)] = None
    """Headline metric: accuracy, f1 (of class 1; the mean over classes where there are more than two), matthews,
    perplexity, or exact_match (of generated answers, see max_new_tokens); none: the named task's own (f1 for mrpc,
    matthews for cola), else accuracy or perplexity, by `task`."""
    max_new_tokens: Annotated[int, Whole(0, 10 * _MILLION), LOADED] = 0
    """Most tokens generated (greedily) to answer an evaluation prompt, for exact match; 0: no exact match."""

    _output: ClassVar = Section("Output", "What is written and shown.")

    out: Annotated[str | None, Place(), SHARED] = None
    """Run folder for config, metrics.jsonl, adapters, plots and report.html; none: nothing is written."""
    overwrite: Annotated[bool, SHARED] = False
    """Whether an earlier run in `out` is replaced. It stays until the new one has finished; until then the new one is
    beside it, in a folder whose name ends with .declora-new."""
    checkpoint_every: Annotated[int | None, Whole(1, _MILLION), SHARED] = None
    """Rounds between checkpoints, from which `declora resume` goes on with the run; the last round is always one. They
    are in `out`, the last two of them, and the last one stays. None: none are written, but with `compare` that of each
    run's last round, so that runs that have finished are not run again."""
    ledger: Annotated[bool, SHARED] = False
    """Whether `out` has a ledger of the run, too, which `declora audit` checks: of each round the digests of every
    client's message and adapter, signed by it (Ed25519) and chained to the round before."""
    callbacks: Annotated[
        Sequence[Callback] | None,
        Objects(check_callback, "a list of objects of classes that derive from declora.Callback"),
    ] = None
    """What hears of each round, evaluation and checkpoint and of the end: objects of your own, see `declora.Callback`.
    No result depends on them."""
    report_to: Annotated[Any | None, Choices(REPORTERS)] = None
    """Where metrics go beside `out`, in a list or with commas: tensorboard (into `out`), wandb, mlflow, trackio; each
    needs the package of its name."""
    tensorboard: bool | None = None
    """Whether tensorboard is in `report_to`; none: as that says."""
    progress: bool | None = None
    """Whether to show notes and a progress bar on standard error; none: where that is a terminal."""

    def __post_init__(self) -> None:
        """Checks every setting that can be checked on its own, and keeps it as plain Python where it is a value."""
        for name, setting in SETTINGS.items():
            object.__setattr__(self, name, setting.check(getattr(self, name)))
        if self.local_steps is not None and self.local_epochs is not None:
            raise ConfigError(
                f"local_steps={self.local_steps} and local_epochs={self.local_epochs} both say how long a round is. "
                "Set one of them to none."
            )
        if self.local_steps is None and self.local_epochs is None:
            object.__setattr__(self, "local_steps", DEFAULT_LOCAL_STEPS)
        check_client_files(self.data, self.eval_data, self.partition, self.clients)
        self._settle_ranks()
        self._check_folder()
        self._settle_reports()
        if self.attack is not None:
            parse_attack(self.attack, self.attackers, clients=self.clients, seed=self.seed)

    def _check_folder(self) -> None:
        wanting = [name for name in ("tensorboard", "ledger", "checkpoint_every") if getattr(self, name)]
        wanting += ["report_to"] * ("tensorboard" in (self.report_to or ()))
        if wanting and self.out is None:
            raise ConfigError(
                f"{wanting[0]}={getattr(self, wanting[0])} needs a run folder to write into. Set out='runs/NAME'."
            )

    def _settle_ranks(self) -> None:
        """Keeps a list of LoRA configurations as one and ranks, of which there must be one for each client."""
        if isinstance(self.lora, list):
            if self.ranks is not None:
                raise ConfigError("lora is a list and ranks is one, too; both say the clients' ranks. Set one of them.")
            lora, ranks = one_of_all(self.lora)
            object.__setattr__(self, "lora", lora)
            object.__setattr__(self, "ranks", ranks)
        if self.ranks is not None and (isinstance(self.ranks, int) or len(self.ranks) != self.clients):
            raise ConfigError(
                f"ranks={shown(self.ranks)} must be a list with a rank of each client, of whom there are "
                f"{self.clients:,}. For one rank of all set lora={{'r': ...}}."
            )

    def _settle_reports(self) -> None:
        """Has `tensorboard` say what `report_to` says, and the other way round."""
        named = list(self.report_to or ())
        if self.tensorboard is False and "tensorboard" in named:
            raise ConfigError(
                f"tensorboard=False and report_to={named} contradict each other. Leave tensorboard out, or take it "
                "from report_to."
            )
        if self.tensorboard and "tensorboard" not in named:
            named.append("tensorboard")
        object.__setattr__(self, "report_to", named or None)
        object.__setattr__(self, "tensorboard", "tensorboard" in named)

    def override(self, **changes: Any) -> "SimulationConfig":
        """Returns a copy with some settings changed, checked again.

        Of `local_steps` and `local_epochs` a change of one replaces the other, of `report_to` and `tensorboard` what
        the other says of TensorBoard.

        Raises:
            ConfigError: A name is not a setting, or a value is out of range.
        """
        for name in changes:
            if name not in SETTINGS:
                raise unknown_setting(name)
        if isinstance(changes.get("lora"), list | tuple):
            changes.setdefault("ranks", None)
        for name, other in (("local_steps", "local_epochs"), ("local_epochs", "local_steps")):
            if changes.get(name) is not None:
                changes.setdefault(other, None)
        if "report_to" in changes:
            changes.setdefault("tensorboard", None)
        elif changes.get("tensorboard") is False:
            changes["report_to"] = [name for name in self.report_to or () if name != "tensorboard"]
        return dataclasses.replace(self, **changes)

    def describe(self) -> dict[str, object]:
        """Returns the settings as JSON values, which give the same run wherever they are read.

        Paths are absolute, and objects (a model, a graph, rows of data) have a short description in their place.
        `overwrite` is not among them: it was said of a run that was there then.
        """
        values = {name: getattr(self, name) for name in SETTINGS if name != "overwrite"}
        return {name: describe(name, value) for name, value in values.items()}


SETTINGS = read_fields(SimulationConfig)
"""Every setting by name."""
OUTPUT = frozenset(name for name, setting in SETTINGS.items() if setting.section is SimulationConfig._output)
"""Those that say what is written and shown: no result depends on them."""
DEFAULTS = SimulationConfig()
"""The embedded run, with every setting as it is where nobody says anything."""
SimulationConfig.__doc__ = f"{SimulationConfig.__doc__}\n\n{list_fields(SETTINGS)}"


def unknown_setting(name: str) -> ConfigError:
    """Returns the error for a setting that is none: it shows which is meant, and all that there are."""
    return unknown_name("setting", name, SETTINGS, also=SYNONYMS)
