"""What metrics measured: nested dicts of numbers, flattened, averaged, joined.

Knows nothing of metrics. Means are those of ``predict.macro``: exact sums, and different keys are refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from reprobuild.errors import UsageError
from reprobuild.predict.macro import mean, nested

Metrics = Mapping[str, Any]
Path = tuple[str, ...]

CLOSE = 1e-4
"""How far a macro result may be from the mean of rounded items: absolute, and relative to it."""


def flatten_nested_dict(nested_dict: Metrics) -> dict[Path, Any]:
    """Give the values of dicts within dicts by the keys that lead to them."""
    return dict(_leaves(nested_dict, ()))


def unflatten_dict(d: Mapping[Path, Any]) -> dict[str, Any]:
    """Give dicts within dicts, from values by the keys that lead to them."""
    return nested(d)


def average_dicts(dicts: Sequence[Metrics]) -> dict[str, Any]:
    """Give the mean of each number; ``{}`` for none. Raises PredictionFailedError for different keys."""
    return mean("average_dicts", dicts)


def get_default_dict(d: Metrics, default: Any) -> dict[str, Any]:
    """Give a nested dict of the same keys with one value everywhere."""
    return nested(dict.fromkeys(flatten_nested_dict(d), default))


def aggregate_parallel_metrics(
    outputs_list: Iterable[tuple[Metrics, Sequence[Metrics]]],
) -> tuple[Metrics, list[Metrics]]:
    """Join what the models of a ``ParallelModel`` gave, each ``(macro, micro)``, into that of all inputs.

    Raises UsageError where a part's macro result is not the mean over its inputs: nothing joins those,
    and the metric has to see all inputs at once.
    """
    given = [(macro, list(micro)) for macro, micro in outputs_list]
    filled = [(macro, micro) for macro, micro in given if macro or micro]
    if len(filled) < 2:
        return filled[0] if filled else ({}, [])
    for index, (macro, micro) in enumerate(filled):
        found = flatten_nested_dict(macro)
        means = flatten_nested_dict(average_dicts(micro))
        wrong = sorted(found.keys() ^ means.keys()) or [
            path
            for path, number in found.items()
            if not math.isclose(number, means[path], rel_tol=CLOSE, abs_tol=CLOSE)
        ]
        if wrong:
            raise UsageError(
                f"{'.'.join(map(str, wrong[0]))} of part {index} is not the mean over its inputs: "
                "it is of the whole corpus, and parts of such a metric can't be joined",
                "give all inputs to one model",
            )
    joined = [item for _, micro in filled for item in micro]
    return average_dicts(joined), joined


def aggregate_metrics_by_group(groups: Sequence[int], metrics_list: Sequence[Metrics]) -> list[Metrics]:
    """Give the mean of each group, in the order of the groups, which are numbered from 0 without a gap."""
    if len(groups) != len(metrics_list):
        raise UsageError(f"there are {len(groups)} groups and {len(metrics_list)} metrics")
    members: dict[int, list[Metrics]] = {}
    for group, metrics in zip(groups, metrics_list, strict=True):
        members.setdefault(group, []).append(metrics)
    if missing := set(range(len(members))) - members.keys():
        raise UsageError(f"groups are numbered from 0 without a gap, and {min(missing)} is not there")
    return [average_dicts(members[group]) for group in range(len(members))]


def _leaves(value: Metrics, path: Path) -> Iterator[tuple[Path, Any]]:
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from _leaves(item, (*path, key))
        else:
            yield (*path, key), item
