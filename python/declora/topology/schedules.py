"""Builds time-varying topologies: one mixing matrix per round of a period, few peers each, exact after the period.

- one-peer exponential (arXiv 2110.13363): round t, client i sends to i + 2^t; exact for n a power of two.
- Base-(k+1) (arXiv 2305.11420): at most k peers in a round, symmetric; exact for every n.
"""

from collections.abc import Iterable
from itertools import chain

import numpy as np
from scipy.sparse import csr_array

__all__ = ["base", "one_peer_exponential"]

Pairs = dict[tuple[int, int], float]


def one_peer_exponential(clients: int) -> tuple[csr_array, ...]:
    """Returns the ceil(log2 n) rounds in which client i gives half its weight to client i + 2^t (mod n)."""
    here = np.arange(clients)
    rounds = []
    for j in range(max(1, (clients - 1).bit_length())):
        sender = (here - (1 << j)) % clients
        both = (np.r_[here, here], np.r_[here, sender])
        rounds.append(csr_array((np.full(2 * clients, 0.5), both), shape=(clients, clients)))
    return tuple(rounds)


def base(clients: int, peers: int) -> tuple[csr_array, ...]:
    """Returns the rounds of the Base-(k+1) graph, k = `peers` (arXiv 2305.11420, its simple form).

    Written for any n: n in base k+1 gives blocks; each block first agrees within itself, then hands its
    share to the later blocks one round at a time, then spreads inside the sub-blocks what it got back.
    """
    everyone = list(range(clients))
    peers = min(peers, clients - 1)  # there are no more
    if _is_smooth(clients, peers + 1):
        return tuple(_matrix(clients, _averaging(step)) for step in _hypercube_rule(everyone, peers + 1))
    blocks = _blocks(everyone, peers + 1)
    inside = [_hypercube_rule(list(chain(*block)), peers + 1) for block in blocks]
    rounds = [_joined(_averaging(rule[t % len(rule)]) for rule in inside if rule) for t in range(len(inside[0]))]
    spread = [[_hypercube_rule(part, peers + 1) for part in block] for block in blocks]
    handing = len(blocks) - 1
    for t in range(max(handing, 1 + len(spread[0][0]))):
        current = _handed_over(blocks, t) if t < handing else {}
        for index, rules in enumerate(spread):
            # Block i is free from the round after it handed over; the last one after the last such round.
            step = t - min(index + 1, handing)
            current |= _joined(_averaging(rule[step]) for rule in rules if 0 <= step < len(rule))
        rounds.append(current)
    return tuple(_matrix(clients, pairs) for pairs in rounds)


def _blocks(nodes: list[int], radix: int) -> list[list[list[int]]]:
    """Splits `nodes` by the digits of n in base `radix`: block l has a_l sub-blocks of radix^p_l nodes."""
    blocks, rest = [], nodes
    size = 1
    while size * radix <= len(nodes):
        size *= radix
    while rest:
        digit = len(rest) // size
        if digit:
            blocks.append([rest[part * size : (part + 1) * size] for part in range(digit)])
            rest = rest[digit * size :]
        size //= radix
    return blocks


def _handed_over(blocks: list[list[list[int]]], giver: int) -> Pairs:
    """Returns the round in which every node of a later block meets one node of each sub-block of block `giver`."""
    later = [node for block in blocks[giver + 1 :] for part in block for node in part]
    parts = blocks[giver]
    size = len(parts) * len(parts[0])
    weight = size / ((size + len(later)) * len(parts))
    return {(node, part[rank]): weight for rank, node in enumerate(later) for part in parts}


def _hypercube_rule(nodes: list[int], radix: int) -> list[list[list[int]]]:
    """Returns, per round, the groups that average so that all of `nodes` agree after the last round.

    The number of nodes must have no prime factor above `radix`; groups have at most `radix` nodes.
    """
    factors, rest = [], len(nodes)
    for factor in range(radix, 1, -1):
        while rest % factor == 0:
            factors.append(factor)
            rest //= factor
    rounds, stride = [], 1
    for factor in sorted(factors):
        starts = [i for i in range(len(nodes)) if i // stride % factor == 0]
        rounds.append([[nodes[start + stride * step] for step in range(factor)] for start in starts])
        stride *= factor
    return rounds


def _is_smooth(number: int, radix: int) -> bool:
    for factor in range(2, radix + 1):
        while number % factor == 0:
            number //= factor
    return number == 1


def _averaging(groups: list[list[int]]) -> Pairs:
    return {(a, b): 1 / len(group) for group in groups for p, a in enumerate(group) for b in group[p + 1 :]}


def _joined(parts: Iterable[Pairs]) -> Pairs:
    return {pair: weight for part in parts for pair, weight in part.items()}


def _matrix(clients: int, pairs: Pairs) -> csr_array:
    """Returns the symmetric matrix with these weights between pairs and the rest of each row at the client itself."""
    ends = np.array(list(pairs), dtype=np.int64).reshape(-1, 2)
    weights = np.array(list(pairs.values()), dtype=np.float64)
    own = np.ones(clients)
    for end in (0, 1):
        np.subtract.at(own, ends[:, end], weights)
    # What is left of 1 by rounding only is no weight.
    own[np.abs(own) < 1e-12] = 0.0
    here = np.arange(clients)
    rows = np.r_[ends[:, 0], ends[:, 1], here]
    columns = np.r_[ends[:, 1], ends[:, 0], here]
    return csr_array((np.r_[weights, weights, own], (rows, columns)), shape=(clients, clients))
