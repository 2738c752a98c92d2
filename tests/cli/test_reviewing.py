"""`tollgate serve` with the analysts' pages: a held payment comes up, is judged, and is gone, also after a new start."""

import re
import time

import httpx

from cli.running import serving, tollgate

PAYMENT = {"transaction_id": "t-1", "effective_time": "2026-01-31T12:00:00Z", "amount": 12.34, "currency": "EUR",
           "card_id": "card-1"}  # fmt: skip
LIMIT_S = 20


def queue_with(http, text):
    """The queue's page once a text is in it."""
    until = time.monotonic() + LIMIT_S
    while text not in (page := http.get("/review/queue").text):
        assert time.monotonic() < until, page
        time.sleep(0.1)
    return page


def test_a_blocked_payment_is_judged_in_the_browser_and_stays_judged(workspace):
    """From the decision over the case's page to the label; the counts are in the metrics."""
    tollgate("lists", "add", "block", "card_id", "card-1", "--reason", "stolen", cwd=workspace)
    with serving(cwd=workspace) as server, httpx.Client(base_url=server.internal, timeout=20) as http:
        assert server.predict(PAYMENT)[1]["outcome"] == "block"
        assert server.predict(PAYMENT | {"transaction_id": "t-2"})[1]["outcome"] == "block"
        http.post("/review/login", data={"key": ""})
        (number,) = re.findall(r"/review/cases/(\d+)\?[^>]*><bdi>t-1<", queue_with(http, ">t-1<"))
        page = http.get(f"/review/cases/{number}").text
        assert "stolen" in page
        assert "card_count_1h" in page
        sent = dict(re.findall(r'name="(csrf|seen)" value="([^"]*)"', page)) | {"disposition": "false_positive"}
        assert http.post(f"/review/cases/{number}/disposition", data=sent).status_code == 303
        assert ">t-1<" not in http.get("/review/queue").text
        metrics = http.get("/metrics").text
        assert 'tollgate_labels_total{result="recorded",source="analyst"} 1.0' in metrics
        assert 'tollgate_dispositions_total{disposition="false_positive"} 1.0' in metrics
        assert 'tollgate_open_cases{outcome="block"} 1.0' in metrics
    with serving(cwd=workspace) as server, httpx.Client(base_url=server.internal, timeout=20) as http:
        http.post("/review/login", data={"key": ""})
        assert ">t-1<" not in queue_with(http, ">t-2<")
