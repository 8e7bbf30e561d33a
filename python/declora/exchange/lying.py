"""An exchange in which some clients lie: what they say, what they send, and what they are left with."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from declora import _bridge
from declora.attacks import Attack
from declora.errors import CodecError, TrainingError
from declora.exchange.base import Delivery, Exchange, Levelled
from declora.exchange.routes import Routes
from declora.plan import Rows
from declora.round_graph import Audience

__all__ = ["LyingExchange"]


class LyingExchange(Exchange):
    """Carries frames as another exchange does, with an attack on what goes through it.

    Args:
        exchange: What carries the frames.
        attack: What some clients do.
        mixer: What is to keep it out, for messages.
    """

    def __init__(self, exchange: Exchange, attack: Attack, *, mixer: str) -> None:
        self._exchange = exchange
        self._attack = attack
        self._mixer = mixer

    def begin(self, clients: int, matrices: Sequence[sp.csr_array], past: dict[str, Any]) -> Routes:
        """Begins a run; an attacker may have a message for each neighbour alone."""
        routes = self._exchange.begin(clients, matrices, past)
        some = {} if routes.whole else {"known": routes.known, "here": routes.here(routes.known)}
        self._attack.start(matrices, past, **some)
        self._routes = self._exchange.tell_apart(clients, self._attack.private)
        return self._routes

    def level(self, t: int, copies: Rows | None) -> Levelled | None:
        """Has the exchange bring level what clients keep of each other."""
        return self._exchange.level(t, copies)

    def told(self, t: int, rows: Rows) -> Rows:
        """Returns the lies among what others have."""
        everyone = self._exchange.everyone(t, rows, after=False)
        if everyone is None:
            return self._routes.spread(self._attack.sent(t, rows))
        said = self._attack.sent(t, everyone)
        return said if self._routes.whole else said[self._routes.said]

    def fitted(self, outgoing: Rows, limit: float) -> Rows:
        """Brings lies to what their codec can carry."""
        self._attack.cut(outgoing, self._routes.senders, limit)
        return outgoing

    def posted(self, t: int, codecs: Sequence[tuple[_bridge.Codec | None, int]], frames: NDArray[np.uint8]) -> None:
        """Forges the attackers' frames, or puts one there that another client lends without knowing it."""
        client = self._attack.forwards
        if client is None:
            self._attack.forge(t, codecs, frames)
            return
        lent = self._exchange.lend(t, client, frames, self._attack.lent(t, frames))
        if lent is not None:
            self._attack.forward(frames, lent)

    def deliver(
        self,
        frames: NDArray[np.uint8],
        sizes: NDArray[np.int64],
        audience: Audience,
        beside: NDArray[np.float64] | None = None,
    ) -> Delivery:
        """Returns what the exchange delivers."""
        return self._exchange.deliver(frames, sizes, audience, beside)

    def heard(self, t: int, public: Callable[[], Rows]) -> None:
        """Lets the attackers remember what they heard."""
        self._attack.hear(t, public)

    def settle(self, t: int, rows: Rows) -> None:
        """Gives the attackers the mean of the honest, who have to have finite values.

        Raises:
            TrainingError: They have not.
        """
        everyone = self._exchange.everyone(t, rows, after=True)
        if everyone is not None:
            self._attack.adopt(everyone)
        here = self._routes.here(rows)
        if everyone is not None and everyone is not rows:
            here[:] = everyone[self._routes.here(self._routes.known)]
        if not np.isfinite(here).all():
            raise self._overcome(t, "clients have values that are not finite.")

    @contextmanager
    def explaining(self, t: int) -> Iterator[None]:
        """Names the attack where the honest cannot go on, but in the first round: nobody has heard a lie before."""
        try:
            yield
        except TrainingError as error:
            if t == 0:
                raise
            raise TrainingError(
                f"{error} Or keep out attack={str(self._attack)!r}: mixer={self._mixer!r} may let it through."
            ) from error
        except CodecError as error:
            if t == 0:
                raise
            raise self._overcome(t, str(error)) from error

    def _overcome(self, t: int, what: str) -> TrainingError:
        """Returns the error of a run whose mixer let an attack move the honest where they cannot go on."""
        return TrainingError(
            f"round {t + 1}: {what} mixer={self._mixer!r} does not seem to keep out attack={str(self._attack)!r}. "
            "Use a robust mixer whose f is at least the number of attackers among a client's neighbours."
        )
