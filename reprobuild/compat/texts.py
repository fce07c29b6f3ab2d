"""Texts as wrapped models take them: one string, or the sentences of one.

Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from reprobuild.errors import InputError

Text = str | list[str]
Item = TypeVar("Item")


def flatten(text: Text, separator: str | None = None) -> str:
    """Give a text as one string: sentences joined by a space, or by ``separator``."""
    return text if isinstance(text, str) else (separator or " ").join(text)


def is_empty_text(text: Text) -> bool:
    """Tell whether there is nothing but white space."""
    return not flatten(text).strip()


def remove_empty_inputs(inputs: Sequence[Text], *contexts: Sequence[Any]) -> tuple[Any, ...]:
    """Give the indexes of empty texts, the others, and of each context what belongs to those.

    All may be empty. Raises InputError for a context of another length.
    """
    for context in contexts:
        if len(context) != len(inputs):
            raise InputError(f"there are {len(inputs)} inputs, and a context of {len(context)}")
    empty = {index for index, text in enumerate(inputs) if is_empty_text(text)}
    full = [[item for index, item in enumerate(row) if index not in empty] for row in (inputs, *contexts)]
    return (empty, *full)


def insert_empty_values(inputs: Sequence[Item], empty_indices: set[int], empty_value: Item) -> list[Item]:
    """Put a value back in for each text that ``remove_empty_inputs`` took out."""
    count = len(inputs) + len(empty_indices)
    if wrong := [index for index in empty_indices if not 0 <= index < count]:
        raise InputError(f"there is no place {wrong[0]} among {count} values")
    rest = iter(inputs)
    return [empty_value if index in empty_indices else next(rest) for index in range(count)]


def check_for_single_texts(texts_list: Sequence[Sequence[Text]]) -> list[Text]:
    """Give the only text of each list. Raises InputError, naming the first that has fewer or more."""
    for index, texts in enumerate(texts_list):
        if isinstance(texts, str) or len(texts) != 1:
            raise InputError(f"item {index} has {len(texts)} texts, and one is needed")
    return [texts[0] for texts in texts_list]


def group_by_references(
    candidates: Sequence[Text], references_list: Sequence[Sequence[Text]]
) -> tuple[list[list[Text]], list[list[Text]], list[tuple[int, int]]]:
    """Put candidates with equal references together.

    Gives the candidates of each group, its references, and for each candidate the group and its place
    there. Groups are told by their texts themselves.
    """
    if len(candidates) != len(references_list):
        raise InputError(f"there are {len(candidates)} candidates and {len(references_list)} references")
    groups: dict[tuple[Any, ...], int] = {}
    grouped: list[list[Text]] = []
    references_of: list[list[Text]] = []
    mapping = []
    for candidate, references in zip(candidates, references_list, strict=True):
        key = tuple(text if isinstance(text, str) else tuple(text) for text in references)
        group = groups.setdefault(key, len(groups))
        if group == len(grouped):
            grouped.append([])
            references_of.append(list(references))
        mapping.append((group, len(grouped[group])))
        grouped[group].append(candidate)
    return grouped, references_of, mapping


def ungroup_values(
    values: Sequence[Any] | Mapping[int, Any], mapping: Sequence[tuple[int, int]]
) -> list[Any]:
    """Give the values of groups in the order of the candidates, by ``group_by_references``' mapping."""
    return [values[group][place] for group, place in mapping]
