"""Scoring a set of files: the decisions of one file, and a run that goes on where another was cut off."""

import shutil

import polars as pl
import pytest

from cli.running import ENVIRONMENT, tollgate
from tollgate.cli.app import app
from tollgate.cli.scored_set import _Work

DAYS = ["day=2026-01-01/part-0", "day=2026-01-01/part-1", "day=2026-01-02/part-0", "day=2026-01-03/part-0"]


@pytest.fixture
def payments(workspace):
    """2000 payments as a file, and in four parts."""
    frame = pl.read_parquet(workspace / "payments.parquet").head(2000)
    frame.write_parquet(workspace / "some.parquet")
    for number, day in enumerate(DAYS):
        path = workspace / "set" / f"{day}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        frame[number * 500 : (number + 1) * 500].write_parquet(path)
    return workspace


def decisions(folder, name="out"):
    return pl.concat([pl.read_parquet(folder / name / f"{day}.parquet") for day in DAYS])


def test_a_set_is_decided_as_one_file_would_be(payments):
    """History passes from file to file, and every file has its decisions under the same name."""
    tollgate("score", "some.parquet", "decisions.parquet", cwd=payments)
    printed = tollgate("score", "set", "out", cwd=payments)
    assert "wrote 2000 decisions to out" in printed
    assert "set TOLLGATE_HASH_KEY" in printed
    assert decisions(payments).equals(pl.read_parquet(payments / "decisions.parquet"))
    assert sorted(path.name for path in (payments / "out").iterdir()) == sorted({day.split("/")[0] for day in DAYS})


def test_what_cannot_be_used_goes_to_a_side_file_of_each_part(payments):
    """Where no reader of Parquet looks."""
    path = payments / "set" / f"{DAYS[1]}.parquet"
    frame = pl.read_parquet(path)
    frame.with_columns(
        pl.when(pl.int_range(500) == 7).then(-5.0).otherwise(pl.col("amount")).alias("amount")
    ).write_parquet(path)
    printed = tollgate("score", "set", "out", cwd=payments, expect=4)
    assert "1 rows were rejected; see out/_rejected" in printed
    (line,) = (payments / "out" / "_rejected" / f"{DAYS[1]}.parquet.jsonl").read_text().splitlines()
    assert f'"part":"{DAYS[1]}.parquet","row":7' in line


def test_the_output_must_not_be_the_input_or_a_file(payments):
    """Else the transactions would be replaced."""
    assert "another folder" in tollgate("score", "set", "set/", cwd=payments, expect=2)
    assert "a folder or URL" in tollgate("score", "set", "out.parquet", cwd=payments, expect=2)


class CutError(Exception):
    """The process ends here."""


@pytest.fixture
def score(payments, invoke, monkeypatch):
    """Scores the set under a lasting key; ends before file `cut`, and keeps the state after every file."""
    monkeypatch.setenv("TOLLGATE_HASH_KEY", "a key of this test, " * 2)
    monkeypatch.chdir(payments)
    monkeypatch.setattr("tollgate.cli.scored_set.KEEP_EVERY_S", 0.0)
    real = _Work.score
    done = []

    def run(cut=None, expect=0):
        done.clear()

        def one(self, part, progress):
            if cut is not None and len(done) == cut:
                raise CutError
            done.append(part.name)
            return real(self, part, progress)

        monkeypatch.setattr(_Work, "score", one)
        if cut is not None:
            with pytest.raises(CutError):
                invoke(app, "score", "set", "out")
            return ""
        result = invoke(app, "score", "set", "out", expect=expect)
        return result.output

    run.done = done
    return run


@pytest.mark.parametrize("cut", [1, 3])
def test_a_run_that_was_cut_off_goes_on_with_the_state_that_it_had(payments, score, cut):
    """Every bit is that of a run that was not."""
    tollgate("score", "some.parquet", "decisions.parquet", cwd=payments)
    score(cut=cut)
    printed = score()
    assert score.done == [f"{day}.parquet" for day in DAYS[cut:]]
    assert f"{cut} of 4 files were there already" in printed
    assert decisions(payments).equals(pl.read_parquet(payments / "decisions.parquet"))
    assert "4 of 4 files were there already" in score()
    assert score.done == []


def test_files_that_are_added_are_decided_with_the_history_of_those_before(payments, score):
    """What comes day by day is scored day by day."""
    tollgate("score", "some.parquet", "decisions.parquet", cwd=payments)
    last = payments / "set" / f"{DAYS[3]}.parquet"
    last.rename(payments / "later.parquet")
    score()
    (payments / "later.parquet").rename(last)
    score()
    assert score.done == [f"{DAYS[3]}.parquet"]
    assert decisions(payments).equals(pl.read_parquet(payments / "decisions.parquet"))


def damage_state(folder):
    (state,) = folder.glob("out/_state/*.state")
    content = bytearray(state.read_bytes())
    content[-40] ^= 1
    state.write_bytes(content)


def damage_ids(folder):
    (ids,) = folder.glob("out/_state/*.ids")
    ids.write_bytes(ids.read_bytes()[:-1])


def change_input(folder):
    path = folder / "set" / f"{DAYS[0]}.parquet"
    pl.read_parquet(path).head(499).write_parquet(path)


def remove_output(folder):
    (folder / "out" / f"{DAYS[1]}.parquet").unlink()


def change_settings(folder):
    with (folder / "tollgate.toml").open("a") as file:
        file.write("\n[files]\nsort = true\n")


def insert_part(folder):
    shutil.copy(folder / "payments.parquet", folder / "set" / "day=2025-12-31.parquet")
    pl.read_parquet(folder / "payments.parquet").tail(10).write_parquet(folder / "set" / "day=2025-12-31.parquet")


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (damage_state, "as it was written"), (damage_ids, "ids that were seen"), (change_input, "input is not the same"),
        (remove_output, "not as they were written"), (change_settings, "are other ones"), (insert_part, "input is not the same"),
    ],
)  # fmt: skip
def test_what_cannot_be_trusted_is_done_again_from_the_first_file(payments, score, harm, why):
    """A file that is there is no reason to believe that its history is."""
    score(cut=3)
    harm(payments)
    printed = score()
    assert why in printed
    assert len(score.done) == len(list((payments / "set").rglob("*.parquet")))


def test_a_set_on_an_s3_server_is_read_scored_and_written_there(payments, bucket, monkeypatch):
    """Over HTTP, by the command as a user runs it."""
    import s3fs

    s3fs.S3FileSystem().put(str(payments / "set"), f"{bucket}/set", recursive=True)
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setitem(ENVIRONMENT, name, __import__("os").environ[name])
    tollgate("score", "some.parquet", "decisions.parquet", cwd=payments)
    assert "wrote 2000 decisions" in tollgate("score", f"{bucket}/set", f"{bucket}/out", cwd=payments)
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().get(f"{bucket}/out", str(payments / "out"), recursive=True)
    assert decisions(payments).equals(pl.read_parquet(payments / "decisions.parquet"))


def test_training_on_a_set_learns_what_training_on_the_file_does(payments):
    """The fingerprint of the training data, of features and labels, is the same."""
    import msgspec

    frame = pl.read_parquet(payments / "payments.parquet")
    for number, rows in enumerate(frame.iter_slices(7000)):
        rows.write_parquet(payments / "set" / f"all-{number}.parquet")
    for day in {day.split("/")[0] for day in DAYS}:
        shutil.rmtree(payments / "set" / day)
    (payments / "tollgate.toml").write_text("[train]\nmax_epochs = 1\nhidden = [8]\n")
    found = []
    for data in ("payments.parquet", "set"):
        printed = tollgate("train", data, cwd=payments)
        bundle = printed.split("stored bundle ")[1].split(";")[0]
        manifest = msgspec.json.decode((payments / "bundles" / bundle / "manifest.json").read_bytes())
        found.append((manifest["training"], manifest["categories"]))
    assert found[0] == found[1]
