"""Secrets: from the environment or a private file, one of them, of a sensible length."""

import os

import pytest

from tollgate.errors import ConfigError
from tollgate.secret import read_secret

NAME = "TOLLGATE_HASH_KEY"
TEXT = "0123456789abcdef0123"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "key"
    path.write_bytes(TEXT.encode())
    path.chmod(0o600)
    return path


def test_no_secret_is_none():
    """Neither variable set is not an error."""
    assert read_secret(NAME, {"OTHER": "x"}) is None


def test_a_secret_comes_from_the_environment():
    """The variable's text, as bytes."""
    assert read_secret(NAME, {NAME: TEXT}) == TEXT.encode()


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n"])
@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640])
def test_a_secret_comes_from_a_file(file, ending, mode):
    """Without the line end that an editor leaves; group and owner may read it."""
    file.write_bytes(TEXT.encode() + ending)
    file.chmod(mode)
    assert read_secret(NAME, {NAME + "_FILE": str(file)}) == TEXT.encode()


def test_both_are_refused(file):
    """Which one counts would be a guess."""
    with pytest.raises(ConfigError, match="both are set"):
        read_secret(NAME, {NAME: TEXT, NAME + "_FILE": str(file)})


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o666])
def test_a_file_open_to_others_is_refused(file, mode):
    """Everyone on the machine could read or replace it."""
    file.chmod(mode)
    with pytest.raises(ConfigError, match=r"closed to others.*chmod"):
        read_secret(NAME, {NAME + "_FILE": str(file)})


@pytest.mark.parametrize("text", ["", "short", "x" * 65, "ä" * 33])
def test_a_length_out_of_bounds_is_refused_and_the_secret_not_told(text):
    """16 to 64 bytes; the error counts them and shows none."""
    with pytest.raises(ConfigError, match="16 to 64 bytes") as caught:
        read_secret(NAME, {NAME: text})
    assert not text or text not in caught.value.message


def test_a_file_that_is_not_there_or_not_plain_is_refused(tmp_path):
    """A missing file, a folder and a pipe without a writer end at once, in a clear error."""
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name, message in (("none", "can be read"), (".", "Is a directory"), ("pipe", "plain file")):
        with pytest.raises(ConfigError, match=message):
            read_secret(NAME, {NAME + "_FILE": str(tmp_path / name)})
