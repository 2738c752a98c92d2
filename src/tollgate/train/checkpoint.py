"""The state of a training between two epochs, on disk, so that one that was killed goes on where it was."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from tollgate.durable import replacing
from tollgate.errors import ModelError


class Checkpoint:
    """A file that holds the newest epoch of one training; nothing in it is executed when it is read."""

    def __init__(self, path: Path, key: str) -> None:
        """Use a file.

        Args:
            path: The file, which need not exist yet.
            key: Names the data and the configuration; the state of another training is not gone on with.
        """
        self._path = path
        self._key = key

    def read(self) -> dict[str, Any] | None:
        """Return the state that was saved last, or None where there is none of this training.

        Raises:
            ModelError: The file is damaged.
        """
        try:
            saved = torch.load(self._path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            return None
        except (OSError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
            raise ModelError(
                "bad_checkpoint", f"could not read the checkpoint {self._path} ({error}); delete it to start anew"
            ) from error
        return saved["state"] if saved["key"] == self._key else None

    def write(self, state: dict[str, Any]) -> None:
        """Replace what was saved: after a kill there is the old state or the new one, whole.

        Raises:
            ModelError: The file cannot be written.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self._path) as file:
                torch.save({"key": self._key, "state": state}, file)
        except OSError as error:
            raise ModelError("cannot_checkpoint", f"could not write the checkpoint {self._path}: {error}") from error
