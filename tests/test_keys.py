"""API keys: a key opens what its scopes say, at its rate, and nothing else opens anything."""

import math
from fractions import Fraction
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tollgate.control import ApiKey, Scope
from tollgate.errors import AuthError, ConfigError, RateError, ScopeError
from tollgate.keys import ANYONE, KeyRing, check_exposure, new_key, presented

SECOND = 1_000_000


def bytes_from(seed):
    return lambda size: sha256(seed.encode()).digest()[:size]


def made(seed="a", scopes=(Scope.SCORE,), rate=10.0):
    text, key = new_key("shop", scopes, rate, 5, bytes_from(seed))
    return text.encode(), key


def replaced(key, **changes):
    fields = {name: getattr(key, name) for name in key.__struct_fields__}
    return ApiKey(**{**fields, **changes})


def test_a_new_key_holds_its_id_and_is_kept_as_a_digest():
    """The text is tollgate_<id>_<43 characters>, and the record has the SHA-256 of the secret alone."""
    text, key = made(scopes=(Scope.LABEL, Scope.SCORE, Scope.LABEL))
    prefix, name, secret = text.decode().split("_", 2)
    assert (prefix, name, len(secret)) == ("tollgate", key.id, 43)
    assert key.digest == sha256(secret.encode()).digest()
    assert secret not in repr(key)
    assert key.scopes == (Scope.LABEL, Scope.SCORE)


@pytest.mark.parametrize("form", [b"Bearer %s", b"bearer %s", b"%s"])
def test_a_good_key_is_let_in(form):
    """Authorization takes Bearer in any case; X-API-Key takes the key as it is."""
    text, key = made()
    assert KeyRing([made("b")[1], key]).check(form % text, Scope.SCORE, 0) == key


@given(st.binary(max_size=80))
def test_no_other_text_is_let_in(text):
    """Whatever bytes come, without the secret they are refused with the one error."""
    with pytest.raises(AuthError, match="known and not revoked"):
        KeyRing([made()[1]]).check(text, Scope.SCORE, 0)


@given(st.integers(0, 64), st.integers(1, 255))
def test_a_key_with_one_byte_changed_is_refused(place, change):
    """No byte of a key is left unread."""
    text, key = made()
    wrong = bytearray(text)
    wrong[place] ^= change
    with pytest.raises(AuthError):
        KeyRing([key]).check(bytes(wrong), Scope.SCORE, 0)


def test_unknown_wrong_and_revoked_keys_get_the_same_answer():
    """The error does not tell which ids exist, nor repeat what came."""
    text, key = made()
    cases = [(made("b")[0], key), (text[:-1] + b"!", key), (text, replaced(key, revoked_us=9))]
    messages = []
    for sent, kept in cases:
        with pytest.raises(AuthError) as caught:
            KeyRing([kept]).check(sent, Scope.SCORE, 10)
        assert (caught.value.status, caught.value.code) == (401, "bad_key")
        messages.append(caught.value.message)
    assert len(set(messages)) == 1


def test_the_id_of_nobody_opens_nothing():
    """The stand-in that unknown ids are compared with cannot be named."""
    with pytest.raises(AuthError):
        KeyRing([made()[1]]).check(b"tollgate_nobody_", Scope.SCORE, 0)


def test_no_key_is_refused_where_there_are_keys():
    """A request without a key is told how to send one."""
    with pytest.raises(AuthError, match="Authorization: Bearer") as caught:
        KeyRing([made()[1]]).check(None, Scope.SCORE, 0)
    assert caught.value.code == "no_key"


def test_a_key_without_the_scope_is_refused_and_keeps_its_tokens():
    """403, and what is refused costs nothing of the rate."""
    text, key = made(rate=1.0)
    ring = KeyRing([key])
    for _ in range(3):
        with pytest.raises(ScopeError) as caught:
            ring.check(text, Scope.ADMIN, 0)
        assert caught.value.status == 403
    assert ring.check(text, Scope.SCORE, 0) == key


def test_without_keys_all_is_open_and_revoking_the_last_one_does_not_open_it():
    """Open means that no key was ever made."""
    text, key = made()
    assert KeyRing([]).check(None, Scope.ADMIN, 0) is ANYONE
    revoked = KeyRing([replaced(key, revoked_us=6)])
    assert not revoked.is_open
    with pytest.raises(AuthError):
        revoked.check(text, Scope.SCORE, 0)


@given(
    rate=st.sampled_from([0.5, 1.0, 4.0, 32.0]),
    steps_us=st.lists(st.integers(0, 40).map(lambda n: n * 62_500), max_size=60),
)
def test_the_bucket_lets_in_what_exact_arithmetic_lets_in(rate, steps_us):
    """Requests at any times are admitted as a bucket of rationals admits them."""
    text, key = made(rate=rate)
    ring, now_us = KeyRing([key]), 7 * SECOND
    burst = max(Fraction(rate), Fraction(1))
    tokens, last_us = burst, now_us
    for step_us in steps_us:
        now_us += step_us
        tokens = min(burst, tokens + Fraction(rate) * (now_us - last_us) / SECOND)
        last_us = now_us
        if abs(tokens - 1) < Fraction(1, 10**9) and tokens != 1:
            return  # too close for binary fractions to tell
        if tokens >= 1:
            ring.check(text, Scope.SCORE, now_us)
            tokens -= 1
            continue
        with pytest.raises(RateError) as caught:
            ring.check(text, Scope.SCORE, now_us)
        assert caught.value.retry_after_s == math.ceil((1 - tokens) / Fraction(rate))


@given(st.lists(st.integers(-5 * SECOND, 5 * SECOND), max_size=30))
def test_a_clock_that_jumps_back_gives_no_tokens_and_locks_nobody_out(steps_us):
    """After any jumps, a key that waits out one interval is let in."""
    text, key = made(rate=2.0)
    ring, now_us = KeyRing([key]), 100 * SECOND
    forward_us = 0
    admitted = 0
    for step_us in steps_us:
        now_us += step_us
        forward_us += max(step_us, 0)
        try:
            ring.check(text, Scope.SCORE, now_us)
            admitted += 1
        except RateError:
            pass
    assert admitted <= 2 + 2 * forward_us / SECOND + 1e-6
    assert ring.check(text, Scope.SCORE, now_us + SECOND // 2 + 1) == key


def test_an_array_is_paid_for_after_it_was_let_in():
    """An array of 31 at 10 a second empties the bucket and the two seconds after it."""
    text, key = made(rate=10.0)
    ring = KeyRing([key])
    ring.charge(ring.check(text, Scope.SCORE, SECOND), 30)
    with pytest.raises(RateError) as caught:
        ring.check(text, Scope.SCORE, SECOND)
    assert (caught.value.status, caught.value.retry_after_s) == (429, 3)
    with pytest.raises(RateError):
        ring.check(text, Scope.SCORE, SECOND + 2_190_000)
    assert ring.check(text, Scope.SCORE, SECOND + 2_210_000) == key


def test_reloading_keeps_what_is_left_of_each_rate():
    """A reload fills no bucket, unless the rate is another; a key that is gone is gone."""
    text, key = made(rate=1.0)
    other, other_key = made("b", rate=1.0)
    ring = KeyRing([key, other_key])
    for one in (text, other):
        ring.check(one, Scope.SCORE, SECOND)
    later = KeyRing([key], before=ring)
    with pytest.raises(RateError):
        later.check(text, Scope.SCORE, SECOND)
    with pytest.raises(AuthError):
        later.check(other, Scope.SCORE, SECOND)
    assert KeyRing([replaced(key, rate_per_s=2.0)], before=ring).check(text, Scope.SCORE, SECOND).id == key.id


def test_authorization_comes_before_x_api_key():
    """Of both headers Authorization counts; other headers are not looked at."""
    assert presented([(b"x-api-key", b"k"), (b"host", b"h"), (b"authorization", b"a")]) == b"a"
    assert presented([(b"host", b"h"), (b"x-api-key", b"k")]) == b"k"
    assert presented([(b"host", b"h")]) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_an_open_server_on_this_machine_only_warns(host):
    """Nobody else can reach it."""
    assert "no API key is needed" in check_exposure(host, KeyRing([]), allowed=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "tollgate.example", ""])
def test_an_open_server_for_other_machines_must_be_meant(host):
    """It is refused without `open = true`, warned of with it, and fine with a key."""
    with pytest.raises(ConfigError, match="open = true"):
        check_exposure(host, KeyRing([]), allowed=False)
    assert "no API key is needed" in check_exposure(host, KeyRing([]), allowed=True)
    assert check_exposure(host, KeyRing([made()[1]]), allowed=False) is None
