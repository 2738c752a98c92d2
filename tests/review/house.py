"""A server of the analysts' pages over a real scorer and a real ledger, and people who use it over HTTP."""

import re
import secrets
from contextlib import contextmanager

import httpx
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from deciding import NOW_US, PLAN, READER, admission, decide, judge, payment, recovery, submission
from serve.talking import serving
from tollgate.intake import TransactionReader
from tollgate.keys import KeyRing, new_key
from tollgate.ledger import Ledger
from tollgate.ledger.cases import Cases
from tollgate.ledger.controls import Controls
from tollgate.money import Money
from tollgate.review.app import Review
from tollgate.review.follower import Follower
from tollgate.review.measures import Measures
from tollgate.review.pages import Pages
from tollgate.review.queue import Queue
from tollgate.review.sessions import Sessions
from tollgate.schema import payment_schema
from tollgate.scorer import Scorer
from tollgate.serve.asynchronous import asynchronous
from tollgate.steps import run


class House:
    """Everything behind the pages; `tick` moves its clock."""

    def __init__(self, url):
        self.now_us = NOW_US
        self.url = url
        self.ledger = Ledger(url)
        self.scorer = Scorer(recovery(self.ledger), judge(), self.ledger, admission(), self.clock, 60.0)
        self.scorer.recover()
        self.controls = Controls(url)
        self.cases = Cases(url)
        self.queue = Queue()
        self.follower = Follower(self.cases, self.queue, READER, self.clock)
        self.keys = KeyRing([])
        self.measures = Measures(self.queue, self.clock)
        self.registry = CollectorRegistry()
        self.registry.register(self.measures)
        sessions = Sessions(lambda: self.keys, secrets.token_bytes)
        self.review = Review(
            self.cases, self.queue, sessions, self.controls,
            TransactionReader(payment_schema(), Money("EUR"), b"r" * 16), Pages(Money("EUR"), sessions.who),
            self.measures, lambda _bundle: PLAN.names, self.take, self.clock,
        )  # fmt: skip

    def clock(self):
        return self.now_us

    def tick(self, seconds):
        self.now_us += int(seconds * 1_000_000)

    async def take(self, labels, by):
        self.tick(1)
        return run(self.scorer.label(labels, by))

    def add_keys(self, **scopes):
        """Have keys of these names and scopes; return their texts."""
        made = [new_key(name, some, 1000.0, NOW_US, secrets.token_bytes) for name, some in scopes.items()]
        self.keys = KeyRing([key for _, key in made])
        return [text for text, _ in made]

    def decide(self, *rows):
        """Decide payments and let the queue follow."""
        decided = decide(self.scorer, submission(*rows))[0]
        self.follower.look()
        return decided

    def hold(self, *numbers, amount=900.0, **changes):
        """Decide payments that are blocked for their amount."""
        rows = [payment(number, amount=amount, **changes) for number in numbers]
        assert {one.outcome for one in self.decide(*rows)} == {"block"}

    def labels(self):
        found = self.cases.said([f"t-{n}" for n in range(100)], 2**60)
        return {name: [(one.is_fraud, one.source) for one in said] for name, said in found.items()}

    def metrics(self):
        return generate_latest(self.registry).decode()

    def close(self):
        self.cases.close()
        self.controls.close()
        self.ledger.close()


class Person:
    """Somebody with a browser of their own."""

    def __init__(self, url):
        self.http = httpx.Client(base_url=url, timeout=20)

    def sign_in(self, key=""):
        return self.http.post("/review/login", data={"key": key})

    def get(self, path):
        return self.http.get(path)

    def follow(self, path):
        return self.http.get(path, follow_redirects=True)

    def fields(self, page):
        """The hidden fields of a page's forms; of several of one name the last."""
        return dict(re.findall(r'name="(csrf|seen)" value="([^"]*)"', page.text))

    def judge(self, page, number, disposition, note="", **more):
        data = {**self.fields(page), "disposition": disposition, "note": note, **more}
        return self.http.post(f"/review/cases/{number}/disposition", data=data)

    def listing(self, page, number, **data):
        return self.http.post(f"/review/cases/{number}/lists", data={**self.fields(page), **data})

    def close(self):
        self.http.close()


@contextmanager
def opened(url):
    """A house at work, and what makes people for it."""
    house, people = House(url), []

    def person(key=None):
        people.append(Person(server.url))
        if key is not None:
            assert people[-1].sign_in(key).status_code == 303
        return people[-1]

    try:
        with serving(asynchronous(house.review.respond)) as server:
            yield house, person
    finally:
        for one in people:
            one.close()
        house.close()
