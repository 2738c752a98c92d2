"""What differs between two lists of features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tollgate.features.declaration import Expr


class Difference(NamedTuple):
    """What one list has that the other has not.

    Attributes:
        added: Only in the new one.
        removed: Only in the old one.
        changed: Old and new feature of one name that compute something else.
        renamed: Old and new feature that compute the same under two names.
        same: How many are in both.
    """

    added: tuple[Expr, ...]
    removed: tuple[Expr, ...]
    changed: tuple[tuple[Expr, Expr], ...]
    renamed: tuple[tuple[Expr, Expr], ...]
    same: int


def compare_features(old: Sequence[Expr], new: Sequence[Expr]) -> Difference:
    """Return what differs between two lists, in each of which every name is used once."""
    before, after = {one.name: one for one in old}, {one.name: one for one in new}
    both = [(before[name], after[name]) for name in after if name in before]
    changed = tuple((a, b) for a, b in both if a.identity != b.identity)
    gone = {one.identity: one for one in old if one.name not in after}
    renamed = tuple(
        (gone.pop(one.identity), one) for one in new if one.name not in before and one.identity in gone
    )  # each old one at most once
    moved = {name for pair in renamed for name in (pair[0].name, pair[1].name)}
    return Difference(
        added=tuple(one for one in new if one.name not in before and one.name not in moved),
        removed=tuple(one for one in old if one.name not in after and one.name not in moved),
        changed=changed,
        renamed=renamed,
        same=len(both) - len(changed),
    )
