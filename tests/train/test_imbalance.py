import math

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from tollgate.config import TrainConfig
from tollgate.train.imbalance import balance

LABELS = torch.zeros(1000)
LABELS[::100] = 1.0


def balanced(imbalance, **options):
    return balance(LABELS, TrainConfig(imbalance=imbalance, **options))


def test_an_epoch_shows_every_fraud_and_every_good_payment_in_turn():
    """Good payments are drawn without replacement until all were shown, across epochs."""
    shown = balanced("sampling", good_per_fraud=15)
    epochs = [shown.rows(number, seed=3) for number in range(1, 8)]

    assert all(rows.numel() == shown.epoch_rows == 160 for rows in epochs)
    assert all(LABELS[rows].sum() == 10 for rows in epochs)
    good = torch.cat([rows[LABELS[rows] == 0] for rows in epochs])
    assert good.unique().numel() == 990  # 1050 were drawn
    counts = good.bincount(minlength=1000)[LABELS == 0]
    assert counts.max() <= 2


def test_the_same_seed_and_epoch_give_the_same_order_and_others_another():
    """What an epoch shows follows from seed and number alone, so a resumed training goes on as it would have."""
    shown = balanced("sampling", good_per_fraud=15)

    assert torch.equal(shown.rows(2, seed=3), shown.rows(2, seed=3))
    assert not torch.equal(shown.rows(2, seed=3), shown.rows(3, seed=3))
    assert not torch.equal(shown.rows(2, seed=3), shown.rows(2, seed=4))


@pytest.mark.parametrize(
    ("imbalance", "odds"), [("none", 10 / 990), ("focal", 10 / 990), ("sampling", 1 / 15), ("weighted", 1.0)]
)
def test_the_prior_that_the_loss_sees_is_that_of_what_is_shown(imbalance, odds):
    """Sampling and weights change the odds by a known factor; the true prior is the same for all."""
    made = balanced(imbalance, good_per_fraud=15)

    assert made.prior_shown == pytest.approx(math.log(odds))
    assert made.prior == pytest.approx(math.log(10 / 990))


def test_the_losses_are_the_published_ones():
    """Cross-entropy, its weighted form as PyTorch has it, and the focal loss of Lin et al."""
    logits = torch.tensor([[0.5, -1.0], [2.0, 0.1], [-3.0, 0.0]])
    labels = torch.tensor([1.0, 0.0, 0.0])
    targets = labels.unsqueeze(1).expand_as(logits)
    p = torch.sigmoid(logits)
    p_true = torch.where(targets == 1, p, 1 - p)

    assert balanced("none").loss(logits, labels) == binary_cross_entropy_with_logits(logits, targets)
    weighted = binary_cross_entropy_with_logits(logits, targets, pos_weight=torch.tensor(99.0))
    assert balanced("weighted").loss(logits, labels) == pytest.approx(float(weighted))
    focal = (-((1 - p_true) ** 2) * torch.log(p_true)).mean()
    assert balanced("focal").loss(logits, labels) == pytest.approx(float(focal))


def test_sampling_more_than_there_are_shows_all():
    """Where good payments are few enough, nothing is left out."""
    assert np.array_equal(np.sort(balanced("sampling", good_per_fraud=500).rows(1, 0)), np.arange(1000))
