"""Who decides, and by which lists, rules and keys: followed while the server runs, and changed between two batches."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from tollgate.bundle import Bundle, CanaryShare, Registry
from tollgate.control import ListEntry
from tollgate.errors import BundleError, TollgateError
from tollgate.features import Arrivals, FeaturePlan
from tollgate.features.snapshot import plan_digest
from tollgate.judge import Judge
from tollgate.keys import KeyRing
from tollgate.ledger import Ledger
from tollgate.ledger.controls import Controls
from tollgate.policy import Policy
from tollgate.recovery import Recovery
from tollgate.scorer import Scorer
from tollgate.serve.batcher import Job
from tollgate.shadow import Shadow
from tollgate.steps import Call, Steps
from tollgate.trial import Trial

LOG = logging.getLogger(__name__)

LOOK_EVERY_S = 0.25
_LOOK_AGAIN = CanaryShare("", 0.0)  # in place of the newest canary that was seen: whatever there is, it is new


@dataclass(frozen=True, slots=True)
class Standing:
    """What people have set, as it was at one version of the controls."""

    version: int
    keys: KeyRing
    entries: tuple[ListEntry, ...]
    rules: bytes | None

    @classmethod
    def read(cls, controls: Controls, before: KeyRing | None = None) -> Standing:
        """Return what is set now; keys keep what is left of their rates from `before`."""
        version = controls.version()  # first: what changes while the rest is read is read again the next time
        return cls(version, KeyRing(controls.keys(), before), tuple(controls.entries()), controls.rules())


@dataclass(frozen=True, slots=True)
class Makers:
    """How the parts of a bundle at work are made.

    Attributes:
        judge: From a bundle and what is set.
        policy: Likewise.
        plan: The features of a bundle.
        recovery: Rebuilds the state of a bundle's features from a ledger.
        follow: Opens the ledger to read it beside the scorer.
        trial: From a canary's judge and its share of the cards.
    """

    judge: Callable[[Bundle, Standing], Judge]
    policy: Callable[[Bundle, Standing], Policy]
    plan: Callable[[Bundle], FeaturePlan]
    recovery: Callable[[Bundle, Ledger], Recovery]
    follow: Callable[[], Ledger]
    trial: Callable[[Judge, float], Trial]


class Succession:
    """Looks for another champion and for other controls, in a thread of its own, and hands over to the scorer."""

    def __init__(
        self,
        registry: Registry,
        controls: Controls,
        ledger: Ledger,
        makers: Makers,
        bundle: Bundle,
        standing: Standing,
        *,
        pinned: bool = False,
        challenger: str | None = None,
    ) -> None:
        """Begin with a bundle and what is set.

        Args:
            registry: Whose champion is followed.
            controls: Followed by their version.
            ledger: The scorer's own.
            makers: How the parts are made.
            bundle: What decides now.
            standing: What it decides by.
            pinned: Keep this bundle, whatever is promoted.
            challenger: Content id of a bundle that scores beside the champion.
        """
        self._registry = registry
        self._controls = controls
        self._ledger = ledger
        self._makers = makers
        self._bundle = bundle
        self._standing = standing
        self._pinned = pinned
        self._challenger = challenger
        self._tried: str | None = bundle.id  # the newest champion that was seen
        self._canary: CanaryShare | None = None  # the newest that was seen
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="succession", daemon=True)
        self._hand_over: Callable[[Job], None] = lambda _job: None

    @property
    def keys(self) -> KeyRing:
        """The keys that are valid now."""
        return self._standing.keys

    @property
    def bundle(self) -> str:
        """Content id of the bundle that decides."""
        return self._bundle.id

    def start(self, hand_over: Callable[[Job], None]) -> None:
        """Start to follow.

        Args:
            hand_over: Has a job run in the scorer's thread between two batches; from any thread.
        """
        self._hand_over = hand_over
        self._thread.start()

    def stop(self) -> None:
        """Follow no more."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _follow(self) -> None:
        if self._challenger is not None:
            self._attempt(partial(self._begin_shadow, self._challenger))
        while not self._stop.wait(LOOK_EVERY_S):
            self._attempt(self.look)

    def _attempt(self, step: Callable[[], None]) -> None:
        try:
            step()
        except TollgateError as error:
            LOG.error("%s: %s", error.code, error.message)  # noqa: TRY400  # expected: the message says it all
        except Exception:
            LOG.exception("following the champion and the controls failed")

    def _begin_shadow(self, challenger: str) -> None:
        self.shadow(self._registry.load(challenger))

    def look(self) -> None:
        """Take up what has changed.

        Raises:
            TollgateError: It cannot be taken up; what was there before goes on.
        """
        if self._controls.version() != self._standing.version:
            self._take_controls()
        champion = None if self._pinned else self._registry.champion()
        if champion is not None and champion != self._tried:
            self._tried = champion  # one that cannot be taken is not tried over and over
            if champion != self._bundle.id:
                self._canary = _LOOK_AGAIN
                self._take_champion(champion)
        canary = None if self._pinned else self._registry.canary()
        if canary != self._canary:
            self._canary = canary
            self._take_canary(canary)

    def shadow(self, challenger: Bundle) -> None:
        """Let a challenger score beside the champion.

        Raises:
            TollgateError: It does not load, or its features cannot be computed.
        """
        self._check_schema(challenger)
        judge = self._makers.judge(challenger, self._standing)
        if self._shares_features(challenger):
            self._hand_over(_shadow(Shadow(challenger.id, judge.score, judge.breaker)))
            return
        arrivals = self._recovered(challenger)
        recovery = self._makers.recovery(challenger, self._ledger)

        def begin(scorer: Scorer) -> Steps[None]:
            yield Call(partial(recovery.follow, arrivals))
            scorer.shadow = Shadow(challenger.id, judge.score, judge.breaker, arrivals)

        self._hand_over(begin)

    def _take_controls(self) -> None:
        standing = Standing.read(self._controls, self._standing.keys)
        bundle = self._bundle
        policy = self._makers.policy(bundle, standing)  # compiled in this thread: the scorer's must not wait for it
        self._standing = standing

        def replace_policy(scorer: Scorer) -> Steps[None]:
            policy.succeed(scorer.judge.policy)
            scorer.install(replace(scorer.judge, policy=policy))
            LOG.info("lists, rules and keys of version %d", standing.version)
            yield from ()

        self._hand_over(replace_policy)
        self._canary = _LOOK_AGAIN  # it is made anew, with these lists and rules

    def _take_champion(self, champion: str) -> None:
        bundle = self._registry.load(champion)
        self._check_schema(bundle)
        judge = self._makers.judge(bundle, self._standing)
        arrivals = None if self._shares_features(bundle) else self._recovered(bundle)

        def take_over(scorer: Scorer) -> Steps[None]:
            before = scorer.judge
            judge.policy.succeed(before.policy)
            if arrivals is None:
                scorer.install(judge)
            else:
                _end_trial(scorer)
                yield from scorer.install_with(judge, self._makers.recovery(bundle, self._ledger), arrivals)
            shadow = scorer.shadow
            if shadow is not None and (
                shadow.bundle == bundle.id or (arrivals is not None and shadow.arrivals is None)
            ):
                scorer.shadow = None  # it decides now, or the features that it read are no longer computed
            if scorer.trial is not None and scorer.trial.judge.bundle == bundle.id:
                _end_trial(scorer)
            elif scorer.trial is not None:
                scorer.trial.judge.policy.limits = judge.policy.limits
            self._bundle = bundle
            before.breaker.close()
            LOG.info("bundle %s decides from now on", bundle.id)

        self._hand_over(take_over)

    def _take_canary(self, canary: CanaryShare | None) -> None:
        if canary is None or canary.bundle == self._bundle.id:
            self._hand_over(_without_trial)
            return
        champion = self._bundle
        bundle = self._registry.load(canary.bundle)
        self._check_schema(bundle)
        if not self._shares_features(bundle):
            self._hand_over(_without_trial)
            raise BundleError(
                "other_features",
                f"bundle {bundle.id} reads other features than {champion.id} and cannot decide beside it; run it as a "
                "shadow, or promote it",
            )
        trial = self._makers.trial(self._makers.judge(bundle, self._standing), canary.share)

        def begin(scorer: Scorer) -> Steps[None]:
            if self._bundle is not champion:
                trial.judge.breaker.close()
                self._canary = _LOOK_AGAIN  # the champion has changed meanwhile
            else:
                _end_trial(scorer)
                trial.judge.policy.limits = scorer.judge.policy.limits  # a rule has one limit, whoever decides
                scorer.trial = trial
                LOG.info("bundle %s decides for %g of the cards from now on", bundle.id, trial.share)
            yield from ()

        self._hand_over(begin)

    def _check_schema(self, bundle: Bundle) -> None:
        old = self._bundle.manifest
        if not bundle.manifest.is_for(old.schema_, old.money):
            raise BundleError(
                "other_schema",
                f"bundle {bundle.id} is for another schema or other money than {self._bundle.id}, which goes on "
                "deciding; start the server again to use it",
            )

    def _shares_features(self, bundle: Bundle) -> bool:
        return plan_digest(self._makers.plan(bundle)) == plan_digest(self._makers.plan(self._bundle))

    def _recovered(self, bundle: Bundle) -> Arrivals:
        """Return the state of a bundle's features, as far as the ledger goes now; this takes a while."""
        LOG.info("computing the features of bundle %s from the ledger", bundle.id)
        with self._makers.follow() as ledger:
            return self._makers.recovery(bundle, ledger).recover()


def _shadow(shadow: Shadow) -> Job:
    def begin(scorer: Scorer) -> Steps[None]:
        scorer.shadow = shadow
        yield from ()

    return begin


def _without_trial(scorer: Scorer) -> Steps[None]:
    _end_trial(scorer)
    yield from ()


def _end_trial(scorer: Scorer) -> None:
    if scorer.trial is not None:
        scorer.trial.judge.breaker.close()
        LOG.info("bundle %s decides for no cards any more", scorer.trial.judge.bundle)
        scorer.trial = None
