"""The names of attacks and who carries them out."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from declora import seeds
from declora.attacks.attack import Attack
from declora.attacks.dissensus import Dissensus
from declora.attacks.frames import Crafted, Inf, NaN
from declora.attacks.replay import Lazy, Replay, Stale
from declora.attacks.values import ALIE, IPM, Gaussian, Mimic, SignFlip
from declora.errors import ConfigError, shown
from declora.spec import Option, parse_spec

__all__ = ["ATTACKS", "parse_attack"]

_LARGEST = float(np.finfo(np.float32).max)
_SCALE = {"scale": Option(whole=False, least=0, above=True, most=_LARGEST)}
_TARGET = {"target": Option(whole=True, least=0)}
_LONGEST = 2**31 - 1
_OPTIONS: dict[type[Attack], dict[str, Option]] = {
    SignFlip: _SCALE,
    ALIE: _SCALE,
    IPM: _SCALE,
    Gaussian: _SCALE,
    Dissensus: _SCALE,
    Mimic: _TARGET,
    Stale: {"delay": Option(whole=True, least=1, most=_LONGEST)},
    Lazy: {"noise": Option(whole=False, least=0, most=_LARGEST)},
    Replay: {"delay": Option(whole=True, least=0, most=_LONGEST), **_TARGET},
    Crafted: {},
    NaN: {},
    Inf: {},
}
ATTACKS: dict[str, type[Attack]] = {kind.name: kind for kind in _OPTIONS}
"""Every attack by its name."""


def parse_attack(text: str, attackers: int | Sequence[int], *, clients: int, seed: int) -> Attack:
    """Returns the attack that `text` names, carried out by `attackers`.

    Args:
        text: `sign-flip[:scale=S]`, `alie[:scale=S]`, `ipm[:scale=S]`, `gaussian[:scale=S]`, `dissensus[:scale=S]`,
            `mimic[:target=C]`, `stale[:delay=N]`, `lazy[:noise=S]`, `replay[:delay=N,target=C]`, `crafted`,
            `nan` or `inf`.
        attackers: How many clients attack (the seed chooses which), or which.
        clients: Clients of the run.
        seed: The run's seed.

    Raises:
        ConfigError: Unknown name or option, a number out of range, attackers who are no clients, or nobody honest.
    """
    name, options = parse_spec("attack", text, {kind.name: known for kind, known in _OPTIONS.items()})
    chosen = _chosen(attackers, clients, seed)
    if options.get("target", 0) >= clients:
        raise ConfigError(f"attack={shown(text)}: target must be one of the clients 0..{clients - 1}.")
    build: Any = ATTACKS[name]
    attack: Attack = build(chosen, seed=seed, **options)
    return attack


def _chosen(attackers: object, clients: int, seed: int) -> list[int]:
    """Returns the clients that attack, ascending."""
    if _is_whole(attackers):
        count = int(attackers)  # type: ignore[call-overload]
        if not 1 <= count < clients:
            raise ConfigError(
                f"attackers={shown(count)} of clients={clients} must be at least 1 and leave somebody honest, so at "
                f"most {clients - 1}."
            )
        return sorted(seeds.generator(seed, "attackers").permutation(clients)[:count].tolist())
    if not isinstance(attackers, list | tuple) or not all(_is_whole(client) for client in attackers):
        raise ConfigError(f"attackers={shown(attackers)} must be a number of clients or a list of them, e.g. [3, 7].")
    chosen = sorted({int(client) for client in attackers})
    if not chosen or len(chosen) < len(attackers) or not 0 <= chosen[0] <= chosen[-1] < clients:
        raise ConfigError(f"attackers={shown(attackers)} must name clients from 0..{clients - 1}, each once.")
    if len(chosen) == clients:
        raise ConfigError(f"attackers={shown(attackers)} are all {clients} clients. Leave somebody honest.")
    return chosen


def _is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
