"""What a model learns from: features with labels, and which of them may be seen when.

A label may be used from the moment at which it was known, never before: a split that looks at the fraud of
yesterday, which nobody reports for a week, measures a model that cannot exist.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tollgate.config import SplitConfig
from tollgate.duration import DAY_US, parse_duration_us
from tollgate.errors import InputError

_EPOCH = date(1970, 1, 1)
_CHUNK_ROWS = 65_536  # hashed at once: bounds the memory


@dataclass(frozen=True, slots=True)
class Dataset:
    """N labelled transactions in arrival order.

    Attributes:
        features: float64 (N, F); NaN is missing, a category is the 52-bit code of its text. They may lie in a
            file, of which the rows are read that are asked for.
        names: The F feature names.
        categorical: Which of the F features are categories.
        back: For each of the F features how many transactions back it looks, 0 being this one.
        is_fraud: The labels, bool (N,).
        available_us: When each label was known, int64 (N,), microseconds since 1970-01-01 UTC.
        time_us: Effective times, int64 (N,).
        amount: float64 (N,), in major units of the base currency.
        card: Keys of the cards, uint64 (N,); 0 is missing.
        ids: The transaction ids, object (N,).
    """

    features: NDArray[np.float64]
    names: tuple[str, ...]
    categorical: tuple[bool, ...]
    back: tuple[int, ...]
    is_fraud: NDArray[np.bool_]
    available_us: NDArray[np.int64]
    time_us: NDArray[np.int64]
    amount: NDArray[np.float64]
    card: NDArray[np.uint64]
    ids: NDArray[Any]

    def __post_init__(self) -> None:
        assert self.features.ndim == 2
        assert self.features.shape[1] == len(self.names) == len(self.categorical) == len(self.back)
        columns = (self.is_fraud, self.available_us, self.time_us, self.amount, self.card, self.ids)
        assert all(column.shape == (len(self),) for column in columns)

    def __len__(self) -> int:
        return len(self.features)

    @property
    def frauds(self) -> int:
        """How many of the transactions are fraud."""
        return int(np.count_nonzero(self.is_fraud))

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Dataset:
        """Return the chosen rows (a mask, or places), in their order; neighbours are not copied."""
        chosen = _places(rows)
        return Dataset(
            self.features[chosen],
            self.names,
            self.categorical,
            self.back,
            self.is_fraud[chosen],
            self.available_us[chosen],
            self.time_us[chosen],
            self.amount[chosen],
            self.card[chosen],
            self.ids[chosen],
        )

    def select(self, keep: NDArray[np.bool_]) -> Dataset:
        """Return the same rows with some of the features, bool (F,); those that stand together are not copied."""
        places = np.flatnonzero(keep)
        return replace(
            self,
            features=self.features[:, _places(keep)],
            names=tuple(self.names[place] for place in places),
            categorical=tuple(self.categorical[place] for place in places),
            back=tuple(self.back[place] for place in places),
        )

    def fingerprint(self) -> str:
        """Return the SHA-256, in hex, of what a model learns from: names, features, labels and times."""
        digest = hashlib.sha256(repr((self.names, self.categorical, self.features.shape)).encode())
        for start in range(0, len(self), _CHUNK_ROWS):
            chunk = self.features[start : start + _CHUNK_ROWS]
            # A missing value may come with any of NaN's many bit patterns, which all mean the same.
            digest.update(np.ascontiguousarray(np.where(np.isnan(chunk), np.nan, chunk)).tobytes())
        for column in (self.is_fraud, self.time_us):
            digest.update(np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Window:
    """A period of effective time: `start_us` belongs to it, `end_us` does not."""

    start_us: int
    end_us: int

    def __str__(self) -> str:
        return f"{_text(self.start_us)} to {_text(self.end_us)} UTC"

    def holds(self, time_us: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which of the times lie in it, bool (N,)."""
        return (time_us >= self.start_us) & (time_us < self.end_us)


@dataclass(frozen=True, slots=True)
class Split:
    """The parts of a data set, oldest first.

    Attributes:
        train: What the weights are fitted on.
        validation: The newest share of the training period: early stopping and calibration.
        test: What is measured, and never looked at before.
        test_known: Which test rows are of a card already known as compromised when their day began, bool (N,).
        test_new: Which test rows are the first of their card in all of the data, bool (N,).
        training: The period of `train` and `validation`.
        testing: The period of `test`.
        immature: How many rows of the training period were left out, since their label was not yet known
            when the test period began.
    """

    train: Dataset
    validation: Dataset
    test: Dataset
    test_known: NDArray[np.bool_]
    test_new: NDArray[np.bool_]
    training: Window
    testing: Window
    immature: int

    def select(self, keep: NDArray[np.bool_]) -> Split:
        """Return the same rows with some of the features, bool (F,)."""
        if keep.all():
            return self
        train, validation, test = (part.select(keep) for part in (self.train, self.validation, self.test))
        return replace(self, train=train, validation=validation, test=test)


def split(dataset: Dataset, config: SplitConfig, delay_us: int, known_us: int | None = None) -> list[Split]:
    """Return the training, validation and test parts of each fold, with the label delay between training and test.

    Args:
        dataset: All rows, with their labels.
        config: The periods, and how many folds.
        delay_us: How long after a transaction its label is known, in microseconds.
        known_us: How long before the test a fraud may have been for its card to count as known as compromised; by
            default since training began.

    Raises:
        InputError: A part is empty, has no fraud or nothing but fraud, or a label came before its transaction.
    """
    if len(dataset) == 0:
        raise InputError("empty_part", "expected labelled transactions to split, but there are none")
    early = np.flatnonzero(dataset.available_us < dataset.time_us)
    if early.size:
        raise InputError(
            "early_label",
            f"expected labels that were known after their transaction, but {early.size} were known before it, the "
            f"first of transaction {dataset.ids[early[0]]!r}; check the column named in [label] available_from",
        )
    is_new = first_of_card(dataset.card)
    folds = windows(dataset.time_us, config, delay_us)
    return [_split(dataset, is_new, *fold, config.validation, known_us, as_of_us=fold[1].start_us) for fold in folds]


def split_at(
    dataset: Dataset, training: Window, testing: Window, config: SplitConfig, known_us: int | None = None
) -> Split:
    """Return the parts of given periods; all labels are used, so those of later than the present must not be there.

    Args:
        dataset: All rows, with their labels.
        training: Ends at or before the beginning of `testing`.
        testing: What is measured.
        config: How much of the training validates.
        known_us: As for `split`.

    Raises:
        InputError: A part is empty, or has no fraud or nothing but fraud.
    """
    as_of_us = int(dataset.available_us.max(initial=testing.start_us))
    return _split(
        dataset, first_of_card(dataset.card), training, testing, config.validation, known_us, as_of_us=as_of_us
    )


def _split(
    dataset: Dataset,
    is_new: NDArray[np.bool_],
    training: Window,
    testing: Window,
    validation_share: float,
    known_us: int | None,
    *,
    as_of_us: int,
) -> Split:
    in_training = training.holds(dataset.time_us)
    usable = in_training & (dataset.available_us <= as_of_us)
    fitted = dataset.take(usable)
    cut = _cut(fitted.time_us, validation_share)
    tested = testing.holds(dataset.time_us)
    test = dataset.take(tested)
    train, validation = fitted.take(fitted.time_us < cut), fitted.take(fitted.time_us >= cut)
    immature = int(np.count_nonzero(in_training & ~usable))
    hint = f"; {immature} rows there have a label that came after {_text(as_of_us)}" if immature else ""
    _check("training", train, training, hint)
    _check("validation", validation, Window(min(cut, training.end_us), training.end_us), hint)
    _check("test", test, testing, "")
    since_us = training.start_us if known_us is None else testing.start_us - known_us
    history = Window(since_us, testing.end_us).holds(dataset.time_us) & dataset.is_fraud
    known = known_compromised(
        test.card, test.time_us, fraud_card=dataset.card[history], fraud_available_us=dataset.available_us[history]
    )
    return Split(train, validation, test, known, is_new[tested], training, testing, immature)


def windows(time_us: NDArray[np.int64], config: SplitConfig, delay_us: int) -> list[tuple[Window, Window]]:
    """Return the training and the test period of each fold, the oldest first.

    The (first) test starts where `config` says, or one delay after a training of given start and length, or else so
    that the newest `test` (a week by default, in whole UTC days) is tested (last). Training ends one delay before the
    test at the latest. From fold to fold a training of given length moves on, another grows.
    """
    training, testing, is_newest = _windows(time_us, config, delay_us)
    step_us = parse_duration_us(config.step)
    folds = []
    for fold in range(config.folds):
        by = (fold - config.folds + 1 if is_newest else fold) * step_us
        start_us = training.start_us + (by if config.train is not None else 0)
        folds.append((Window(start_us, training.end_us + by), Window(testing.start_us + by, testing.end_us + by)))
    return folds


def _windows(time_us: NDArray[np.int64], config: SplitConfig, delay_us: int) -> tuple[Window, Window, bool]:
    """Return both periods of one fold, and whether they were counted from the end."""
    end_us = int(time_us.max()) + 1
    train_us = parse_duration_us(config.train) if config.train is not None else None
    test_us = parse_duration_us(config.test) if config.test is not None else None
    if test_us is None and config.folds > 1:
        test_us = parse_duration_us(config.step)
    start_us = _midnight(config.train_start)
    test_start_us = _midnight(config.test_start)
    if test_start_us is None and config.test_share is not None:
        test_start_us = _cut(time_us, config.test_share)
    if test_start_us is None and start_us is not None and train_us is not None:
        test_start_us = start_us + train_us + delay_us
    is_newest = test_start_us is None
    if test_start_us is None:
        test_us = 7 * DAY_US if test_us is None else test_us
        if test_us % DAY_US == 0:
            end_us = -(-end_us // DAY_US) * DAY_US
        test_start_us = end_us - test_us
    train_end_us = test_start_us - delay_us
    if start_us is None:
        start_us = train_end_us - train_us if train_us is not None else min(int(time_us.min()), train_end_us)
    elif train_us is not None:
        train_end_us = min(train_end_us, start_us + train_us)
    testing = Window(test_start_us, test_start_us + test_us if test_us else end_us)
    return Window(start_us, train_end_us), testing, is_newest


def _places(chosen: NDArray[np.bool_] | NDArray[np.int64]) -> slice | NDArray[np.int64]:
    """Return what is chosen (a mask, or places) as a slice where it stands together: a slice copies nothing."""
    places = np.flatnonzero(chosen) if chosen.dtype == np.bool_ else chosen.astype(np.int64, copy=False)
    is_run = places.size > 0 and bool((np.diff(places) == 1).all())
    return slice(int(places[0]), int(places[-1]) + 1) if is_run else places


def _midnight(day: date | None) -> int | None:
    return None if day is None else (day - _EPOCH).days * DAY_US


def first_of_card(card: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Return which of N rows in arrival order are the first of their card, bool (N,).

    Args:
        card: Keys of the cards, uint64 (N,); 0 is missing, and never a first.
    """
    first = np.zeros(card.shape, dtype=np.bool_)
    first[np.unique(card, return_index=True)[1]] = True
    first[card == 0] = False
    return first


def known_compromised(
    card: NDArray[np.uint64],
    time_us: NDArray[np.int64],
    *,
    fraud_card: NDArray[np.uint64],
    fraud_available_us: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Return which transactions are of a card that was known as compromised before their day (UTC) began.

    The Fraud Detection Handbook, chapter 3, removes them from the test set: such a card would be blocked.

    Args:
        card: Keys of the cards, uint64 (N,); 0 is missing and never known.
        time_us: Effective times, int64 (N,).
        fraud_card: Cards of the frauds since training began, uint64 (M,).
        fraud_available_us: When each of those frauds was known, int64 (M,).
    """
    cards, place = np.unique(fraud_card, return_inverse=True)
    if cards.size == 0:
        return np.zeros(card.shape, dtype=np.bool_)
    first_us = np.full(cards.shape, np.iinfo(np.int64).max)
    np.minimum.at(first_us, place, fraud_available_us)
    at = np.minimum(np.searchsorted(cards, card), cards.size - 1)
    midnight_us = time_us // DAY_US * DAY_US
    known: NDArray[np.bool_] = (cards[at] == card) & (first_us[at] < midnight_us) & (card != 0)
    return known


def _cut(time_us: NDArray[np.int64], share: float) -> int:
    """Return the time from which on rows validate: by time, so that no training row is newer than one of them."""
    if time_us.size == 0:
        return 0
    place = round(time_us.size * (1 - share))
    if place >= time_us.size:
        return int(time_us.max()) + 1
    return int(np.partition(time_us, place)[place])


def _check(name: str, part: Dataset, window: Window, hint: str) -> None:
    if len(part) == 0:
        raise InputError(
            "empty_part",
            f"the {name} part ({window}) has no rows{hint}; set other periods in [split] or give more data",
        )
    if part.frauds in (0, len(part)):
        only = "no fraud" if part.frauds == 0 else "nothing but fraud"
        raise InputError(
            "one_class",
            f"expected both classes, but the {name} part ({window}) has {only} in its {len(part)} rows{hint}; "
            "check [label], set other periods in [split] or give more data",
        )


def _text(time_us: int) -> str:
    return np.datetime_as_string(np.datetime64(time_us, "us"), unit="m").replace("T", " ")
