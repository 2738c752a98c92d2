"""A rule set as people write it: TOML or JSON, checked when it is read."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tollgate.decision import Outcome
from tollgate.duration import SECOND_US
from tollgate.errors import ConfigError
from tollgate.features.expression import MAX_CHARACTERS

MAX_RULES = 200
MAX_BYTES = 2**20  # of a document; what the ledger keeps of it is no longer
BLOCKS_PER_MINUTE = 60  # of a block rule that does not say: one that is wrong stops a few payments, and not the shop
_MAX_REASON = 500  # characters
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class RuleMode(StrEnum):
    """How far a rule counts."""

    LIVE = "live"
    SHADOW = "shadow"  # its hits are counted, and nothing else happens
    OFF = "off"


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One rule.

    Attributes:
        name: Of small letters, digits and _; its reason code is `rule_NAME`.
        when: The condition, in the feature language.
        action: What happens to a payment on which it holds.
        reason: A sentence for whoever asks why.
        mode: Shadow by default: a rule is looked at before it acts.
        limit_per_minute: The most payments that it decides in a minute of the clock; beyond them it only counts. A
            block rule that does not say has `BLOCKS_PER_MINUTE`, others have none.
        expires: From then on it holds no more; with an offset.
    """

    name: str
    when: Annotated[str, Meta(min_length=1, max_length=MAX_CHARACTERS)]
    action: Outcome
    reason: Annotated[str, Meta(min_length=1, max_length=_MAX_REASON)]
    mode: RuleMode = RuleMode.SHADOW
    limit_per_minute: Annotated[int, Meta(gt=0)] | None = None
    expires: Annotated[dt.datetime, Meta(tz=True)] | None = None

    @property
    def limit(self) -> int | None:
        """The most payments that it decides in a minute; None is no limit."""
        if self.limit_per_minute is None and self.action is Outcome.BLOCK:
            return BLOCKS_PER_MINUTE
        return self.limit_per_minute

    @property
    def expires_us(self) -> int | None:
        """`expires` in microseconds since 1970-01-01 UTC."""
        if self.expires is None:
            return None
        since = self.expires - _EPOCH
        return (since.days * 86_400 + since.seconds) * SECOND_US + since.microseconds


class RuleSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All rules that count at one time, in the order in which they were written.

    Raises:
        ConfigError: There are too many, a name is used twice or is no name, or a reason is not printable.
    """

    rules: tuple[Rule, ...] = ()

    def __post_init__(self) -> None:
        if len(self.rules) > MAX_RULES:
            raise ConfigError("bad_rules", f"expected at most {MAX_RULES} rules, but got {len(self.rules)}")
        seen: set[str] = set()
        for rule in self.rules:
            if _NAME.fullmatch(rule.name) is None:
                raise ConfigError(
                    "bad_rule",
                    f"rule {rule.name!r}: expected a name of 1 to 63 small letters, digits and _, a letter first",
                )
            if rule.name in seen:
                raise ConfigError("bad_rule", f"rule '{rule.name}': expected every name once, but it came before")
            if not rule.reason.isprintable():
                raise ConfigError("bad_rule", f"rule '{rule.name}': expected a reason of printable characters")
            seen.add(rule.name)

    def find(self, name: str) -> Rule | None:
        """Return the rule of that name, if there is one."""
        return next((rule for rule in self.rules if rule.name == name), None)

    def encode(self) -> bytes:
        """Return it as JSON: equal sets are equal bytes."""
        return msgspec.json.encode(self, order="deterministic")

    @property
    def digest(self) -> str:
        """SHA-256 of what `encode` gives, in hex."""
        return hashlib.sha256(self.encode()).hexdigest()


def parse_rules(document: bytes, origin: str, form: Literal["json", "toml"] = "json") -> RuleSet:
    """Return the rule set in a document.

    Raises:
        ConfigError: It is too large, not of that form, or a value is not what it must be; `origin` is named.
    """
    if len(document) > MAX_BYTES:
        raise ConfigError(
            "bad_rules", f"{origin}: expected at most {MAX_BYTES} bytes of rules, but got {len(document)}"
        )
    decode = msgspec.toml.decode if form == "toml" else msgspec.json.decode
    try:
        return decode(document, type=RuleSet)
    except ConfigError as error:
        raise ConfigError(error.code, f"{origin}: {error.message}", file=origin) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:  # its subclass ValidationError names the path
        raise ConfigError("bad_rules", f"{origin}: {error}", file=origin) from None


def read_rules(path: Path) -> RuleSet:
    """Return the rule set of a file, `.toml` or `.json`.

    Raises:
        ConfigError: It cannot be read, or is wrong.
    """
    if path.suffix not in (".toml", ".json"):
        raise ConfigError("bad_rules", f"expected a file of rules ending in .toml or .json, but got {path.name}")
    try:
        document = path.read_bytes()
    except OSError as error:
        raise ConfigError("no_rules", f"expected rules at {path}: {error.strerror}", file=str(path)) from error
    return parse_rules(document, str(path), "toml" if path.suffix == ".toml" else "json")
