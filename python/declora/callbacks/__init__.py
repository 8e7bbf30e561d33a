"""What is told of a run while it goes on, to callbacks of the user's own and to the trackers that `report_to` names."""

from declora.callbacks.callback import HOOKS, Callback, RunFacts, check_callback
from declora.callbacks.calling import Calling
from declora.callbacks.reporters import REPORTERS, check_reporters

__all__ = ["HOOKS", "REPORTERS", "Callback", "Calling", "RunFacts", "check_callback", "check_reporters"]
