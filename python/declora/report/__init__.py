"""Writes what a run leaves behind: its folder, figures, tables and one HTML page; knows nothing of training.

Everything here reads two plain data frames. `history` has one row per round (`round`, `train_loss`,
`average_accuracy` or `average_perplexity`, `clients_accuracy_min`, `consensus_distance`, `bytes_sent`,
`seconds_train`, ...), `clients` one row per round and client. A column may be absent, or NaN in the rounds in
which it was not measured.
"""

from typing import TYPE_CHECKING

from declora.lazily import exports

if TYPE_CHECKING:
    from declora.report.belongings import place_of
    from declora.report.beside import Beside
    from declora.report.claim import find_run
    from declora.report.comparison import brief_table, comparison_table
    from declora.report.earlier import Earlier
    from declora.report.folder_errors import reason
    from declora.report.graph import choose_links, plot_topology, schedule_figure, topology_figure
    from declora.report.html import CLIENTS, RunSummary, comparison_report, file_name, run_report
    from declora.report.json_lines import read_metrics
    from declora.report.plots import comparison_figure, run_figure
    from declora.report.progress import Progress, announce
    from declora.report.run_folder import RunFolder
    from declora.report.run_log import RunLog
    from declora.report.style import CARD, house_style
    from declora.report.tables import cut, format_bytes, format_seconds, to_markdown, to_text
    from declora.report.tensorboard import TensorBoardLog

__all__ = [
    "CARD",
    "CLIENTS",
    "Beside",
    "Earlier",
    "Progress",
    "RunFolder",
    "RunLog",
    "RunSummary",
    "TensorBoardLog",
    "announce",
    "brief_table",
    "choose_links",
    "comparison_figure",
    "comparison_report",
    "comparison_table",
    "cut",
    "file_name",
    "find_run",
    "format_bytes",
    "format_seconds",
    "house_style",
    "place_of",
    "plot_topology",
    "read_metrics",
    "reason",
    "run_figure",
    "run_report",
    "schedule_figure",
    "to_markdown",
    "to_text",
    "topology_figure",
]

__getattr__ = exports(
    __name__,
    {
        "CARD": "style",
        "CLIENTS": "html",
        "Beside": "beside",
        "Earlier": "earlier",
        "Progress": "progress",
        "RunFolder": "run_folder",
        "RunLog": "run_log",
        "RunSummary": "html",
        "TensorBoardLog": "tensorboard",
        "announce": "progress",
        "brief_table": "comparison",
        "choose_links": "graph",
        "comparison_figure": "plots",
        "comparison_report": "html",
        "comparison_table": "comparison",
        "cut": "tables",
        "file_name": "html",
        "find_run": "claim",
        "format_bytes": "tables",
        "format_seconds": "tables",
        "house_style": "style",
        "place_of": "belongings",
        "plot_topology": "graph",
        "read_metrics": "json_lines",
        "reason": "folder_errors",
        "run_figure": "plots",
        "run_report": "html",
        "schedule_figure": "graph",
        "to_markdown": "tables",
        "to_text": "tables",
        "topology_figure": "graph",
    },
)
