"""What a recorded decision survives."""

from typing import Literal

Durability = Literal["fsync", "os"]  # a power cut; or only the death of the process
