"""What a run says of itself before its first round."""

from declora.report.messages import source_name
from declora.report.tables import format_bytes
from declora.run import Run
from declora.train.order import work_in_words

__all__ = ["header"]


def header(run: Run, label: str) -> list[str]:
    """Returns lines on who takes part, what is trained and what is sent; each fits a terminal of 80 columns, mostly.

    Args:
        run: The run, which is not begun.
        label: What it is called.
    """
    config, federation, layout = run.config, run.federation, run.layout
    text, base = run.material.text, run.material.base
    clients = f"{federation.clients:,} client{'s' * (federation.clients != 1)}"
    graph = "" if federation.exchange.silent else f" on {federation.topology.name}"
    classes = f", {len(text.label_names)} classes" if text.task == "classification" else ""
    # Here, or on other hosts, too.
    texts, evaluated = max(len(text.train), int(federation.samples.sum())), sum(run.shares.evaluated)
    lora = layout.columns - layout.size("head")
    upto = "up to " if len(set(federation.ranks)) > 1 else ""
    facts = {
        "data": f"{source_name(config.data)}: {texts:,} texts, {evaluated or len(text.evaluation):,} to "
        f"evaluate on{classes}; {run.partition.name}",
        "base": f"{source_name(config.model)}, {base.storage.kind}, {format_bytes(base.storage.size)}, on "
        f"{base.device}",
        "trained": f"{upto}{layout.columns:,} numbers a client (LoRA {lora:,})",
        "sent": _message(run),
        "rounds": f"{config.rounds:,} of {work_in_words(run.local_steps, config.local_epochs)}, batches of "
        f"{federation.batch_size}, evaluated every {config.eval_every}",
    }
    return [f"{label}: {clients}{graph}", *(f"  {name:8} {fact}" for name, fact in facts.items())]


def _message(run: Run) -> str:
    codec, upto = run.federation.codec, "up to " if run.federation.uneven else ""
    if run.federation.exchange.silent:
        return "nothing: clients do not talk" if run.federation.clients > 1 else "nothing: all data are in one place"
    meanwhile = ", while steps are taken" if run.federation.overlap else ""
    return f"{upto}{format_bytes(codec.frame_bytes(run.sent))} a message, codec {codec.name}{meanwhile}"
