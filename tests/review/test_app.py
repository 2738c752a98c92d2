"""The analysts' pages over HTTP: what they show, what their forms do, and who may not."""

import pytest

from deciding import payment
from review.house import opened
from tollgate.control import ListKind, Scope
from tollgate.label import Label, LabelSource

EVIL = '"><script>alert(1)</script>\u202e{{7*7}}'


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture
def place(url):
    with opened(url) as made:
        yield made


@pytest.fixture
def house(place):
    return place[0]


@pytest.fixture
def anna(place):
    return place[1]("")


def test_the_queue_shows_open_cases_the_greatest_expected_loss_first(house, anna):
    """By age, on demand; what was approved is no case."""
    house.hold(1, amount=800.0)
    house.hold(2, amount=950.0)
    house.decide(payment(3))
    page = anna.get("/review/queue").text
    assert page.index("t-2") < page.index("t-1")
    assert "t-3" not in page
    page = anna.get("/review/queue?order=age").text
    assert page.index("t-1") < page.index("t-2")


def test_filters_leave_out_what_is_not_asked_for(house, anna):
    """By outcome, reason, merchant and age; nonsense is passed over."""
    house.hold(1, merchant_id="shop-1")
    house.tick(2 * 3600)
    house.hold(2, merchant_id="shop-2")
    anna.sign_in()
    queries = ("merchant=shop-1", "hours=1", "outcome=review", "outcome=block", "reason=none", "hours=x&order=y")
    shown = {
        query: [name for name in ("t-1", "t-2") if f">{name}<" in anna.get(f"/review/queue?{query}").text]
        for query in queries
    }
    assert shown == {
        "merchant=shop-1": ["t-1"], "hours=1": ["t-2"], "outcome=review": [], "outcome=block": ["t-1", "t-2"],
        "reason=none": [], "hours=x&order=y": ["t-1", "t-2"],
    }  # fmt: skip


def test_a_case_shows_the_payment_its_reasons_and_what_its_card_did(house, anna):
    """With outcomes and labels of the others; another card is not in it."""
    house.decide(payment(1), payment(2, card_id="card-2"))
    house.hold(3)
    house.ledger.add_labels([Label("t-1", True, LabelSource.CHARGEBACK)], "me", house.now_us)
    page = anna.get("/review/cases/3").text
    for text in ("900", "block", "score: probability of fraud", ">t-1<", "card_id", ">fraud<", "card_count_1h"):
        assert text in page
    assert ">t-2<" not in page


@pytest.mark.parametrize(
    ("disposition", "is_fraud"), [("confirmed_fraud", True), ("false_positive", False)]
)  # fmt: skip
def test_a_verdict_is_a_label_of_an_analyst_and_the_next_case_comes(house, anna, disposition, is_fraud):
    """The case is closed at once, and the note is kept with who said it."""
    house.hold(1, 2)
    answer = anna.judge(anna.get("/review/cases/1"), 1, disposition, "called them")
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/review/next?")
    page = anna.follow(answer.headers["location"])
    assert "t-2" in page.text
    assert "is recorded" in page.text
    assert house.labels() == {"t-1": [(is_fraud, "analyst")]}
    assert ">t-1<" not in anna.get("/review/queue").text
    assert "called them" in anna.get("/review/cases/1").text
    assert f'tollgate_dispositions_total{{disposition="{disposition}"}} 1.0' in house.metrics()


def test_what_is_inconclusive_leaves_the_queue_without_a_label(house, anna):
    """Also after a new start; a verdict may still be given."""
    house.hold(1)
    anna.judge(anna.get("/review/cases/1"), 1, "inconclusive")
    house.follower.look()
    assert house.labels() == {}
    assert house.queue.numbers().oldest_us is None
    anna.judge(anna.get("/review/cases/1"), 1, "false_positive")
    assert house.labels() == {"t-1": [(False, "analyst")]}
    assert anna.judge(anna.get("/review/cases/1"), 1, "inconclusive").status_code == 409


def test_a_verdict_is_taken_back_by_the_opposite_one(house, anna):
    """Both stay on record; the newest counts."""
    house.hold(1)
    anna.judge(anna.get("/review/cases/1"), 1, "confirmed_fraud")
    anna.judge(anna.get("/review/cases/1"), 1, "false_positive")
    assert house.labels() == {"t-1": [(True, "analyst"), (False, "analyst")]}


def test_a_button_pressed_twice_counts_once(house, anna):
    """The same form again is answered as the first time, and changes nothing."""
    house.hold(1)
    page = anna.get("/review/cases/1")
    answers = [anna.judge(page, 1, "confirmed_fraud") for _ in range(2)]
    assert [one.status_code for one in answers] == [303, 303]
    assert house.labels() == {"t-1": [(True, "analyst")]}
    assert len(house.cases.findings("t-1").all) == 2
    assert 'disposition="confirmed_fraud"} 1.0' in house.metrics()


def test_a_case_that_another_judged_meanwhile_is_shown_again(house, place):
    """Nothing of the second is recorded, and they see what the first said; so does a label that came by another way."""
    texts = house.add_keys(anna=[Scope.LABEL], ben=[Scope.LABEL])
    anna, ben = (place[1](text) for text in texts)
    house.hold(1, 2)
    page = ben.get("/review/cases/1")
    anna.judge(anna.get("/review/cases/1"), 1, "confirmed_fraud", "by phone")
    answer = ben.judge(page, 1, "false_positive")
    assert answer.status_code == 409
    assert "by phone" in answer.text
    assert "anna" in answer.text
    assert house.labels() == {"t-1": [(True, "analyst")]}
    page = ben.get("/review/cases/2")
    house.ledger.add_labels([Label("t-2", True, LabelSource.CHARGEBACK)], "import", house.now_us)
    assert ben.judge(page, 2, "false_positive").status_code == 409


def test_a_case_that_another_has_open_says_so_and_is_not_the_next(house, place):
    """For a while: then whoever comes gets it."""
    anna, ben = (place[1](text) for text in house.add_keys(anna=[Scope.LABEL], ben=[Scope.LABEL]))
    house.hold(1, amount=990.0)
    house.hold(2, amount=900.0)
    assert "/cases/1?" in anna.get("/review/next").headers["location"]
    anna.get("/review/cases/1")
    assert "anna opened this case" in ben.get("/review/cases/1").text
    assert "open at anna" in ben.get("/review/queue").text
    assert "/cases/2?" in ben.get("/review/next").headers["location"]
    assert "/cases/1?" in anna.get("/review/next").headers["location"]
    house.tick(11 * 60)
    assert "/cases/1?" in ben.get("/review/next").headers["location"]


def test_hostile_values_are_text(house, anna):
    """Nothing that a merchant or a note holds becomes a tag, and no template is read in it."""
    house.hold(1, merchant_id=EVIL, device_id="d'\"<img src=x onerror=1>")
    anna.judge(anna.get("/review/cases/1"), 1, "confirmed_fraud", EVIL)
    for path in ("/review/queue", "/review/cases/1", "/review/queue?merchant=%22%3E%3Cscript%3E&reason=%3Cb%3E"):
        page = anna.get(path).text
        assert page.count("<script") == 1
        assert "<img" not in page
        assert "<script>" not in page
    page = anna.get("/review/cases/1").text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "{{7*7}}" in page


def test_raw_card_numbers_are_not_shown(house, anna):
    """Where one came through in a column that is not guarded."""
    house.hold(1, merchant_id="4111 1111 1111 1111", country="4111111111111111")
    for path in ("/review/queue", "/review/cases/1"):
        page = anna.get(path).text
        assert "1111 1111" not in page
        assert "41111111" not in page
    assert "[card number]" in page


def test_without_a_session_every_page_leads_to_the_login(house, place):
    """Reading too; only style and script are open."""
    house.add_keys(anna=[Scope.LABEL])
    house.hold(1)
    nobody = place[1]()
    for path in ("/review", "/review/queue", "/review/next", "/review/cases/1"):
        assert nobody.get(path).headers["location"] == "/review/login"
    assert nobody.http.post("/review/cases/1/disposition", data={"disposition": "inconclusive"}).status_code == 303
    assert house.cases.findings("t-1").all == ()
    assert nobody.get("/review/look.css").headers["content-type"].startswith("text/css")
    assert "text/javascript" in nobody.get("/review/shortcuts.js").headers["content-type"]


def test_only_a_key_for_labels_opens_a_session(house, place):
    """Another scope, a wrong key and none are refused, and give no cookie."""
    score, admin, _ = house.add_keys(score=[Scope.SCORE], admin=[Scope.ADMIN], label=[Scope.LABEL])
    nobody = place[1]()
    for key, status in ((score, 403), (admin, 403), ("", 401), ("tollgate_x_y", 401), ("\u20ac", 401)):
        answer = nobody.sign_in(key)
        assert answer.status_code == status
        assert "set-cookie" not in answer.headers


def test_a_session_ends_with_its_key_by_signing_out_and_by_itself(house, place):
    """Its cookie is good for nothing then."""
    (key,) = house.add_keys(anna=[Scope.LABEL])
    one, other, third = (place[1](key) for _ in range(3))
    page = one.get("/review/queue")
    assert one.http.post("/review/logout", data=one.fields(page)).status_code == 303
    assert one.get("/review/queue").status_code == 303
    assert other.get("/review/queue").status_code == 200
    house.tick(3601)
    assert other.get("/review/queue").status_code == 303
    third.sign_in(key)
    assert third.get("/review/queue").status_code == 200
    house.add_keys(ben=[Scope.LABEL])
    assert third.get("/review/queue").status_code == 303


def test_the_cookie_is_closed_to_scripts_and_other_sites(house, place):
    """And to plain HTTP, where a proxy says that the browser speaks TLS."""
    person = place[1]()
    answer = person.sign_in("")
    for word in ("HttpOnly", "SameSite=Strict", "Path=/review"):
        assert word in answer.headers["set-cookie"]
    secure = person.http.post("/review/login", data={"key": ""}, headers={"x-forwarded-proto": "https"})
    assert "Secure" in secure.headers["set-cookie"]


def test_a_form_without_the_sessions_token_or_from_another_site_does_nothing(house, anna):
    """A cookie alone is not enough."""
    house.hold(1)
    page = anna.get("/review/cases/1")
    assert anna.judge(page, 1, "confirmed_fraud", csrf="").status_code == 403
    assert anna.judge(page, 1, "confirmed_fraud", csrf="0" * 64).status_code == 403
    anna.http.headers["origin"] = "https://evil.example"
    assert anna.judge(page, 1, "confirmed_fraud").status_code == 403
    anna.http.headers["origin"] = "null"
    assert anna.judge(page, 1, "confirmed_fraud").status_code == 403
    anna.http.headers["origin"] = str(anna.http.base_url).rstrip("/")
    assert house.labels() == {}
    assert anna.judge(page, 1, "confirmed_fraud").status_code == 303


def test_every_page_forbids_scripts_from_elsewhere_and_frames(house, anna):
    """Refusals and redirections as well."""
    for path in ("/review/queue", "/review/login", "/review/cases/77", "/review/nothing", "/review"):
        headers = anna.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-frame-options"] == "DENY"
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path", ["cases/0", "cases/77", "cases/x", "cases/-1", "cases/9" + "9" * 30, "cases/", "other"]
)
def test_what_is_not_there_is_said(anna, path):
    """With 404, whatever the number looks like."""
    assert anna.get(f"/review/{path}").status_code == 404


def test_bad_forms_are_refused_and_change_nothing(house, anna):
    """An unknown verdict, an endless note, too many fields, too many bytes."""
    house.hold(1)
    page = anna.get("/review/cases/1")
    assert anna.judge(page, 1, "guilty").status_code == 422
    assert anna.judge(page, 1, "confirmed_fraud", "x" * 1001).status_code == 422
    assert anna.judge(page, 1, "confirmed_fraud", "x" * 9000).status_code == 413
    assert anna.judge(page, 1, "confirmed_fraud", **{f"a{n}": "" for n in range(30)}).status_code == 422
    assert anna.http.put("/review/cases/1").status_code == 405
    assert house.labels() == {}


def test_an_admin_puts_what_the_case_names_on_a_list(house, place):
    """The value comes from the record; who did it and why is in the audit trail, and the page shows the entry."""
    (key,) = house.add_keys(anna=[Scope.LABEL, Scope.ADMIN])
    anna = place[1](key)
    house.hold(1, device_id="dev<1>")
    page = anna.get("/review/cases/1")
    asked = {"list": "block", "column": "device_id", "reason": "ring", "expires": "7d", "value": "other"}
    assert anna.listing(page, 1, **asked).status_code == 303
    (entry,) = house.controls.entries()
    assert (entry.list, entry.column, entry.value, entry.reason) == (ListKind.BLOCK, "device_id", "dev<1>", "ring")
    assert entry.expires_us == house.now_us + 7 * 86_400_000_000
    (record,) = house.controls.audit()
    assert (record.action, record.actor) == ("list.add", entry.added_by)
    assert "dev&lt;1&gt;" in anna.get("/review/cases/1").text.split("<h2>Lists</h2>")[1]
    for bad in ({"column": "channel"}, {"list": "grey"}, {"expires": "1y"}, {"reason": " "}, {"column": "ip"}):
        assert anna.listing(page, 1, **asked | bad).status_code == 422
    assert len(house.controls.entries()) == 1


def test_lists_are_closed_to_who_may_only_label(house, place):
    """The form is not shown, and refused where it is sent anyway."""
    (key,) = house.add_keys(anna=[Scope.LABEL])
    anna = place[1](key)
    house.hold(1)
    page = anna.get("/review/cases/1")
    assert "/lists" not in page.text
    sent = {"list": "block", "column": "card_id", "reason": "x", "expires": "1d"}
    assert anna.listing(page, 1, **sent).status_code == 403
    assert house.controls.entries() == []


def test_a_new_start_finds_the_same_queue(url):
    """Open cases, and not those that were judged."""
    with opened(url) as (house, person):
        house.hold(1, 2, 3)
        anna = person("")
        anna.judge(anna.get("/review/cases/2"), 2, "confirmed_fraud")
        before = house.metrics().split("# HELP tollgate_dispositions")[0]
    with opened(url) as (house, person):
        house.tick(1)
        house.follower.look()
        assert house.metrics().split("# HELP tollgate_dispositions")[0] == before
        page = person("").get("/review/queue").text
        assert [name for name in ("t-1", "t-2", "t-3") if f">{name}<" in page] == ["t-1", "t-3"]


def test_a_label_that_cannot_be_recorded_leaves_the_case_open(house, anna):
    """The page says so; nothing is half done."""
    house.hold(1)

    async def broken(labels, by):
        raise ConnectionError

    house.review._take_labels = broken
    assert anna.judge(anna.get("/review/cases/1"), 1, "confirmed_fraud").status_code == 500
    assert house.cases.findings("t-1").all == ()
    assert len(house.queue.some([1])) == 1


def test_without_keys_the_server_is_open_until_there_is_one(house, place):
    """Who came in without a key is out then."""
    nobody = place[1]("")
    assert nobody.get("/review/queue").status_code == 200
    house.add_keys(anna=[Scope.LABEL])
    assert nobody.get("/review/queue").status_code == 303
