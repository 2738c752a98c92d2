"""A training that is interrupted, shared, continued, or larger than the memory."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from learning import QUICK, SHOPS, payments
from tollgate import metrics
from tollgate.errors import ModelError
from tollgate.train import Circumstances, fit
from tollgate.train.workers import Workers

TABM = msgspec.structs.replace(QUICK, model="tabm", dropout=0.1, max_epochs=5)

SCRIPT = """
import sys, os, time
from pathlib import Path
import numpy as np
from learning import payments
from train.test_circumstances import TABM
from tollgate.train import Circumstances, fit
from tollgate.train.workers import joined

def slow(epoch):
    print(epoch.number, flush=True)
    time.sleep(float(sys.argv[2]))

with joined(os.environ) as workers:
    given = Circumstances(on_epoch=slow, checkpoint=Path(sys.argv[1]) / "check", workers=workers)
    trained = fit(payments(3000, seed=1), payments(2000, seed=2), TABM, given)
    if workers.leads:
        np.save(Path(sys.argv[1]) / "scores.npy", trained.scores(payments(500, seed=3).features))
"""


@pytest.fixture(scope="module")
def parts():
    return payments(3000, seed=1), payments(2000, seed=2)


@pytest.fixture(scope="module")
def trained(parts):
    return fit(*parts, TABM)


def same(one, other):
    states = one.network.state_dict(), other.network.state_dict()
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def blurred(seed):
    """Payments of which those near the limit may be either: no model can be sure of them."""
    part = payments(6000, seed=seed)
    part.is_fraud[:] ^= (np.abs(part.features[:, 0] - 200) < 60) & (np.random.default_rng(seed).random(6000) < 0.4)
    return part


def environment():
    """The variables of a process that runs SCRIPT."""
    tests = str(Path(__file__).parents[1])
    return {**os.environ, "PYTHONPATH": tests, "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize("interrupted", [1, 3, 6, 8])
def test_an_interrupted_training_goes_on_to_the_same_weights(parts, trained, tmp_path, interrupted):
    """Whether it stops in the first fit or in the second, what comes out is as if it had not."""
    told = []

    def stop(epoch):
        told.append(epoch.number)
        if len(told) == interrupted:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(*parts, TABM, Circumstances(on_epoch=stop, checkpoint=tmp_path / "check"))
    assert list(tmp_path.iterdir())
    again = []
    resumed = fit(*parts, TABM, Circumstances(on_epoch=again.append, checkpoint=tmp_path / "check"))

    assert same(resumed, trained)
    assert resumed.epochs == trained.epochs
    assert not list(tmp_path.iterdir())  # nothing is left behind


def test_a_killed_process_goes_on_from_its_last_epoch(trained, tmp_path):
    """kill -9 in the middle of an epoch loses that epoch and nothing else."""
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    with subprocess.Popen([*command, "0.5"], stdout=subprocess.PIPE, text=True, env=environment()) as process:
        assert process.stdout is not None
        seen = [process.stdout.readline().strip() for _ in range(3)]
        process.send_signal(signal.SIGKILL)
    assert seen == ["1", "2", "3"]
    assert not (tmp_path / "scores.npy").exists()

    subprocess.run([*command, "0"], check=True, env=environment(), stdout=subprocess.DEVNULL, timeout=120)

    scores = np.load(tmp_path / "scores.npy")
    assert np.array_equal(scores, trained.scores(payments(500, seed=3).features))


def test_the_checkpoint_of_another_training_is_not_gone_on_with(parts, trained, tmp_path):
    """Other data or another configuration start anew."""

    def stop(_epoch):
        raise KeyboardInterrupt

    other = msgspec.structs.replace(TABM, learning_rate=3e-3)
    with pytest.raises(KeyboardInterrupt):
        fit(*parts, other, Circumstances(on_epoch=stop, checkpoint=tmp_path / "check"))

    assert same(fit(*parts, TABM, Circumstances(checkpoint=tmp_path / "check")), trained)


def test_a_damaged_checkpoint_is_an_error_that_says_what_to_do(parts, tmp_path):
    """It is neither believed nor thrown away in silence."""
    (tmp_path / "check.fit.pt").write_bytes(b"not a checkpoint")

    with pytest.raises(ModelError, match="delete it to start anew") as caught:
        fit(*parts, TABM, Circumstances(checkpoint=tmp_path / "check"))
    assert caught.value.code == "bad_checkpoint"


@pytest.mark.slow
def test_two_processes_of_torchrun_learn_what_one_learns(tmp_path):
    """Each takes half of every batch; gradients are averaged, so both hold the same, equally good network."""
    script = tmp_path / "work.py"
    script.write_text(SCRIPT)
    command = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0", "--rdzv-backend", "c10d"]
    rendezvous = ["--rdzv-endpoint", "127.0.0.1:0", str(script), str(tmp_path), "0"]

    done = subprocess.run(
        [sys.executable, *command, *rendezvous],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    test = payments(500, seed=3)
    assert metrics.average_precision(test.is_fraud, np.load(tmp_path / "scores.npy")) > 0.9


def test_shares_of_a_batch_are_all_of_it_and_none_is_empty():
    """Two workers never see the same row of a batch, unless there is only one."""
    rows = torch.arange(11)
    shares = [Workers(rank, 3).share(rows) for rank in range(3)]

    assert torch.cat(shares).sort().values.tolist() == list(range(11))
    assert all(Workers(rank, 3).share(rows[:1]).tolist() == [0] for rank in range(3))


def test_a_fitted_network_is_trained_on_without_forgetting(parts, trained):
    """Small steps from known weights: it takes in a new kind of fraud and keeps the old one."""
    shop = SHOPS[0]

    def with_new_fraud(seed):
        part = payments(10_000, seed=seed)
        part.is_fraud[:] |= (part.features[:, 3] == shop) & (part.features[:, 1] <= 1)
        return part

    train, validation, test = (with_new_fraud(seed) for seed in (11, 12, 13))
    on = fit(train, validation, TABM, Circumstances(start=trained.network))
    old = payments(2000, seed=14)

    before, after = (metrics.average_precision(test.is_fraud, one.scores(test.features)) for one in (trained, on))
    assert after > before + 0.2
    assert torch.equal(on.network.preprocess.knots, trained.network.preprocess.knots)
    caught = metrics.auc_roc(old.is_fraud, on.scores(old.features))
    assert caught > 0.9
    assert len(on.epochs) <= 4


def test_rows_that_do_not_fit_the_memory_give_the_same_weights(parts, trained):
    """Preprocessed rows in a file are the same rows."""
    assert same(fit(*parts, msgspec.structs.replace(TABM, memory_gb=1e-6)), trained)


def test_a_score_keeps_its_meaning_when_the_imbalance_changes():
    """Trained on other shares of good payments, or weighted, the same payment scores nearly the same.

    The stated bound, on the mean over payments, is two points of probability; another seed alone moves 0.7 points.
    """
    train, validation, test = (blurred(seed) for seed in (1, 2, 3))
    config = msgspec.structs.replace(TABM, max_epochs=8)
    scores = [
        fit(train, validation, msgspec.structs.replace(config, **options)).scores(test.features)
        for options in (
            {"imbalance": "none"},
            {"imbalance": "sampling", "good_per_fraud": 8, "max_epochs": 16},  # as many rows seen
            {"imbalance": "weighted"},
            {"imbalance": "focal"},
        )
    ]

    for other in scores[1:]:
        assert np.abs(other - scores[0]).mean() < 0.02


def test_confidence_is_lower_where_the_model_errs():
    """Decisions at a half that were wrong come with less confidence than those that were right, by a clear margin."""
    train, validation, test = (blurred(seed) for seed in (1, 2, 3))
    trained = fit(train, validation, msgspec.structs.replace(TABM, members=8))
    scores = trained.scores(test.features)
    sure = trained.confidence(test.features)
    wrong = (scores >= 0.5) != test.is_fraud

    assert ((sure >= 0) & (sure <= 1)).all()
    assert sure[wrong].mean() < sure[~wrong].mean() - 0.05
    assert metrics.auc_roc(wrong, 1 - sure) > 0.75
