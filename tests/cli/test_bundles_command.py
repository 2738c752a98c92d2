"""`tollgate bundles`: what a person types, and what it changes."""

import json
from pathlib import Path

import pytest
import typer

from cli.trusting import keyed, trust
from cli.variants import other_features, variant
from tollgate.bundle import MODEL, SIGNATURE, CanaryShare, Registry
from tollgate.cli.bundles import bundles
from tollgate.config import PolicyConfig
from tollgate.errors import BundleError, ConfigError
from tollgate.ledger.controls import Controls


@pytest.fixture
def run(workspace, invoke, monkeypatch):
    """Runs `tollgate bundles` in the folder of a training and returns what it printed."""
    monkeypatch.chdir(workspace)
    app = typer.Typer()
    app.add_typer(bundles)
    return lambda *arguments, expect=0: invoke(app, "bundles", *arguments, expect=expect).output


def registry():
    return Registry(Path("bundles"))


def audited():
    with Controls("sqlite:///tollgate.db") as controls:
        return [(one.action, one.actor, one.subject, one.detail) for one in controls.audit()]


def damage(bundle_id):
    path = Path("bundles") / bundle_id / MODEL
    path.write_bytes(path.read_bytes()[:-1])


def test_a_promotion_and_a_rollback_move_the_champion_and_are_audited(run, workspace):
    """Who did it and what decided before are in the audit trail; a promotion of what decides says so."""
    first = registry().champion()
    second = variant(workspace, policy=PolicyConfig(review=0.2))

    assert f"{second} decides from now on; before it: {first}" in run("promote", second, "--by", "ana")
    assert registry().champion() == second
    assert f"{second} decides already" in run("promote", second, "--by", "ana")
    assert f"{first} decides from now on; before it: {second}" in run("rollback", "--by", "ben")
    assert registry().champion() == first
    promoted = ("champion.promote", "ana", second)
    assert audited() == [
        (*promoted, {"before": first}),
        (*promoted, {"before": second}),
        ("champion.rollback", "ben", second, {}),
    ]


def test_what_cannot_decide_is_not_promoted(run, workspace):
    """A bundle that is damaged, or that the published rules do not fit: the champion and the audit trail stay."""
    first = registry().champion()
    broken = variant(workspace, policy=PolicyConfig(review=0.2))
    damage(broken)
    with pytest.raises(BundleError, match="is not what was stored"):
        run("promote", broken)

    rule = {"name": "fast", "when": "card_no_such_feature > 1", "outcome": "review"}
    with Controls("sqlite:///tollgate.db") as controls:
        controls.put_rules(json.dumps({"rules": [rule]}).encode(), "ana", 1)
    with pytest.raises(ConfigError, match="the published rules do not fit bundle"):
        run("promote", variant(workspace, policy=PolicyConfig(review=0.3)))
    with pytest.raises(BundleError, match="expected the id of a bundle"):
        run("promote", "0123456789abcdef")

    assert registry().champion() == first
    assert [action for action, *_ in audited()] == ["rules.publish"]


def test_a_list_shows_what_decides_and_what_is_damaged(run, workspace):
    """The newest comes first; a damaged bundle does not hide the others."""
    first = registry().champion()
    made = registry().load().manifest.created_us
    second = variant(workspace, created_us=made + 60_000_000)
    third = variant(workspace, created_us=made + 120_000_000)
    damage(third)

    lines = run("list").splitlines()
    found = [next(one for one in (first, second, third) if one in line) for line in lines if "│" in line]
    assert found == [second, first, third]
    assert "champion" in next(line for line in lines if first in line)
    assert "damaged_bundle" in next(line for line in lines if third in line)
    as_json = [json.loads(line) for line in run("list", "--json").splitlines() if line.startswith("{")]
    assert [(one["id"], one["champion"]) for one in as_json] == [(second, False), (first, True)]


def test_verify_ends_with_5_where_a_file_has_changed(run, workspace):
    """Each bundle gets a line."""
    good, broken = registry().champion(), variant(workspace, policy=PolicyConfig(review=0.2))
    assert run("verify").count(" ok, ") == 2
    damage(broken)
    printed = run("verify", expect=5)
    assert f"{good} ok" in printed
    assert f"{broken} damaged_bundle" in printed
    run("verify", good)


def test_show_says_what_a_bundle_is(run):
    """What it was trained on, how it did, and what its files are."""
    one = registry().load()
    printed = run("show", one.id)
    assert f"{one.manifest.metrics['average_precision']:.6g}" in printed
    assert one.manifest.training.fingerprint in printed
    assert json.loads(run("show", one.id, "--json"))["trained_on"]["rows"] == one.manifest.training.rows


def test_diff_shows_measures_features_and_settings(run, workspace):
    """What is equal but for the measures is left out."""
    first = registry().champion()
    second = variant(
        workspace, policy=PolicyConfig(review=0.25), plan=other_features(workspace), metrics={"average_precision": 0.5}
    )
    found = json.loads(run("diff", first, second, "--json"))
    assert found["settings"] == {"policy.review": [0.5, 0.25]}
    assert found["metrics"]["average_precision"] == [registry().load().manifest.metrics["average_precision"], 0.5]
    assert found["metrics"]["recall"][1] is None
    assert len(found["changed"]) == 1
    printed = run("diff", first, second)
    assert "computed in another way: " + found["changed"][0] in printed
    assert "policy.review" in printed


def test_a_canary_begins_and_ends_with_a_record_of_who_did_it(run, workspace):
    """What cannot decide beside the champion is refused, and nothing changes."""
    second = variant(workspace, policy=PolicyConfig(review=0.2))
    assert f"{second} decides for 10% of the cards" in run("canary", second, "--share", "10%", "--by", "ana")
    assert registry().canary() == CanaryShare(second, 0.1)
    with pytest.raises(BundleError, match="is the champion already"):
        run("canary", registry().champion())
    with pytest.raises(BundleError, match="other features"):
        run("canary", variant(workspace, plan=other_features(workspace)))
    for share in ("0%", "100%", "0.1", "many%", "nan%"):
        with pytest.raises(ConfigError, match="expected a share above 0%"):
            run("canary", second, "--share", share)
    for arguments in ((), (second, "--off")):
        with pytest.raises(ConfigError, match="both or neither"):
            run("canary", *arguments)
    assert registry().canary() == CanaryShare(second, 0.1)
    assert "the champion decides for all cards" in run("canary", "--off", "--by", "ben")
    assert registry().canary() is None
    assert audited() == [
        ("canary.begin", "ana", second, {"share": 0.1}),
        ("canary.end", "ben", second, {}),
    ]


def test_a_list_shows_the_canary_and_its_share(run, workspace):
    """As people write it; a champion is none, and is one again when its promotion is taken back."""
    first, second = registry().champion(), variant(workspace, policy=PolicyConfig(review=0.2))

    def roles():
        printed = [line for line in run("list").splitlines() if first in line or second in line]
        shown = {
            json.loads(line)["id"]: json.loads(line)["canary_share"] for line in run("list", "--json").splitlines()
        }
        return {line.split("│")[1].strip(): line.split("│")[2].strip() for line in printed}, shown

    for share, value in (("7.5%", 0.075), ("7%", 0.07), ("0.001%", 1e-5)):
        run("canary", second, "--share", share)
        told, shown = roles()
        assert told == {first: "champion", second: f"canary, {share}"}
        assert shown == {first: None, second: pytest.approx(value)}
    run("promote", second)
    assert roles() == ({first: "", second: "champion"}, {first: None, second: None})
    run("rollback")
    assert roles()[0][second] == "canary, 0.001%"
    run("canary", "--off")
    assert roles()[0] == {first: "champion", second: ""}


def test_with_trusted_keys_only_what_one_of_them_has_signed_decides(run, workspace, monkeypatch):
    """Missing, of another key, of another bundle, or none at all: each is refused by its name."""
    first, second = registry().champion(), variant(workspace, policy=PolicyConfig(review=0.2))
    trust(keyed(monkeypatch, "a"))
    assert "unsigned_bundle" in run("verify", second, expect=5)
    with pytest.raises(BundleError, match="is not signed"):
        run("promote", second)
    keyed(monkeypatch, "b")
    run("sign", second)
    assert "untrusted_key" in run("verify", second, expect=5)
    public = keyed(monkeypatch, "a")
    run("sign", first)
    assert f"public key {public}" in run("sign", second, "--by", "ana")
    run("promote", second)
    assert registry().champion() == second
    assert ("bundle.sign", "ana", second, {"key": public}) in audited()
    (Path("bundles") / first / SIGNATURE).write_bytes((Path("bundles") / second / SIGNATURE).read_bytes())
    assert "bad_signature" in run("verify", first, expect=5)
    (Path("bundles") / first / SIGNATURE).write_text("{")
    assert "bad_signature" in run("verify", first, expect=5)
    damage(second)
    assert "damaged_bundle" in run("verify", second, expect=5)


def test_keys_that_are_none_are_refused(run, workspace, monkeypatch):
    """In the environment and in the configuration."""
    for text in ("0" * 62, "x" * 64):
        monkeypatch.setenv("TOLLGATE_SIGNING_KEY", text)
        with pytest.raises(ConfigError, match="expected a private key"):
            run("sign", registry().champion())
    trust("abcd")
    with pytest.raises(ConfigError, match="expected public keys"):
        run("verify")
