"""`verify`: a run recomputed from its start, and compared with what its folder holds of it, round by round."""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from declora.errors import RunFolderError
from declora.origin import describe_origin, differences, environment
from declora.outputs import adapter_folders
from declora.report import Earlier, Progress, announce, find_run
from declora.report.json_lines import METRICS, line_of, whole_lines
from declora.result import SimulationResult
from declora.run import Outcome, RoundRecord, Run
from declora.settings import of_run
from declora.simulation import computing, configs_of, ready
from declora.store import Checkpoint

__all__ = ["Verification", "verify"]
