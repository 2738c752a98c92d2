"""The pages under `/review` on the internal port: who may see them, what they show, what a form does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from urllib.parse import parse_qsl, urlsplit

import numpy as np

from tollgate.control import ListEntry, ListKind
from tollgate.duration import parse_duration_us
from tollgate.errors import ConflictError, InputError, NotFoundError, ScopeError, TollgateError, TooLargeError
from tollgate.intake import TransactionReader
from tollgate.label import Label, LabelResult, LabelSource
from tollgate.labelling import refusal_of
from tollgate.ledger.cases import Cases, Disposition, Finding, Payment
from tollgate.ledger.controls import Controls
from tollgate.review.case import Filter, decision_of, fields_of, filter_of, text_of
from tollgate.review.history import LOOK, hits, neighbours
from tollgate.review.measures import Measures
from tollgate.review.pages import Pages, redirect
from tollgate.review.queue import Queue
from tollgate.review.sessions import PATH, Session, Sessions, cookie, is_from
from tollgate.serve.message import Answer, Request

LOG = logging.getLogger(__name__)

MAX_FORM_BYTES = 8192
MAX_FIELDS = 20
MAX_NOTE = 1000  # characters
MAX_SHOWN = 100  # cases on the queue's page
EXPIRIES = ("1d", "7d", "30d", "90d", "never")
_CASES = f"{PATH}/cases/"
_VERDICTS = {Disposition.CONFIRMED_FRAUD: "is fraud", Disposition.FALSE_POSITIVE: "is no fraud"}

TakeLabels = Callable[[Sequence[Label], str], Awaitable[list[LabelResult]]]
Form = Mapping[str, str]


class Review:
    """Answers what comes under `/review`."""

    def __init__(
        self,
        cases: Cases,
        queue: Queue,
        sessions: Sessions,
        controls: Controls,
        reader: TransactionReader,
        pages: Pages,
        measures: Measures,
        feature_names: Callable[[str], Sequence[str]],
        take_labels: TakeLabels,
        clock_us: Callable[[], int],
    ) -> None:
        """Put it together.

        Args:
            cases: Of the ledger.
            queue: Followed by a `Follower`.
            sessions: Who is signed in.
            controls: Lists and the audit trail.
            reader: Of the schema.
            pages: Render.
            measures: Count dispositions.
            feature_names: Of the bundle with that content id; none where it is gone.
            take_labels: Records labels under who sent them, as POST /labels does.
            clock_us: Microseconds since 1970-01-01 UTC.
        """
        self._cases = cases
        self._queue = queue
        self._sessions = sessions
        self._controls = controls
        self._reader = reader
        self._pages = pages
        self._measures = measures
        self._feature_names = feature_names
        self._take_labels = take_labels
        self._clock_us = clock_us
        self._one_at_a_time = asyncio.Lock()  # of two who press a button at once, the second is told

    async def respond(self, request: Request) -> Answer:
        """Return the answer to a request; it never raises."""
        try:
            return await self._route(request)
        except TollgateError as error:
            return self._message(error.status, error.message)
        except Exception:
            LOG.exception("a page failed", extra={"request_id": request.id, "path": request.path})
            return self._message(500, "The page failed; the log says why.")

    def _message(self, status: int, text: str) -> Answer:
        return self._pages.render("message.html", status, text=text)

    async def _route(self, request: Request) -> Answer:
        method, path = "GET" if request.method == "HEAD" else request.method, request.path
        if method not in ("GET", "POST"):
            return self._message(405, "Expected GET or POST.")
        if method == "GET" and path == f"{PATH}/look.css":
            return self._pages.style()
        if method == "GET" and path == f"{PATH}/shortcuts.js":
            return self._pages.shortcuts()
        if method == "POST" and not _same_origin(request):
            return self._message(403, "This form was sent from another site.")
        if path == f"{PATH}/login":
            return self._sign_in(request) if method == "POST" else self._pages.render("login.html", error="")
        session = self._sessions.find(request.header(b"cookie"), self._clock_us())
        if session is None:
            return redirect(f"{PATH}/login")
        return await (self._post(request, session) if method == "POST" else self._get(request, session))

    async def _get(self, request: Request, session: Session) -> Answer:
        query = dict(_fields(request.query))
        match request.path:
            case "/review" | "/review/":
                return redirect(f"{PATH}/queue")
            case "/review/queue":
                return await self._show_queue(filter_of(query), session, query)
            case "/review/next":
                return await self._next(filter_of(query), session, query)
            case path if path.startswith(_CASES):
                payment = await self._payment(path.removeprefix(_CASES))
                return await self._show_case(payment, filter_of(query), session, done=query.get("done", ""))
        raise NotFoundError("not_found", f"There is no page {request.path}.")

    async def _post(self, request: Request, session: Session) -> Answer:
        if len(request.body) > MAX_FORM_BYTES:
            raise TooLargeError("body_too_large", f"Expected at most {MAX_FORM_BYTES} bytes.")
        form = dict(_fields(request.body.decode("utf-8", "replace")))
        if not is_from(session, form.get("csrf", "")):
            return self._message(403, "This form does not belong to your session; open the page again.")
        if request.path == f"{PATH}/logout":
            self._sessions.close(request.header(b"cookie"))
            return redirect(f"{PATH}/login", (b"set-cookie", cookie("", secure=_is_secure(request))))
        number, _, action = request.path.removeprefix(_CASES).partition("/")
        if not request.path.startswith(_CASES) or action not in ("disposition", "lists"):
            raise NotFoundError("not_found", f"There is no form {request.path}.")
        payment = await self._payment(number)
        wanted = filter_of(dict(_fields(request.query)))
        return await (self._settle if action == "disposition" else self._list)(payment, form, wanted, session)

    def _sign_in(self, request: Request) -> Answer:
        form = dict(_fields(request.body[:MAX_FORM_BYTES].decode("utf-8", "replace")))
        try:
            token = self._sessions.open(form.get("key", "").strip(), self._clock_us())
        except TollgateError as error:
            return self._pages.render("login.html", error.status, error=error.message)
        return redirect(f"{PATH}/queue", (b"set-cookie", cookie(token, secure=_is_secure(request))))

    async def _payment(self, number: str) -> Payment:
        found = None
        if number.isascii() and number.isdigit() and len(number) <= 18:  # of an int64
            found = await asyncio.to_thread(self._cases.payment, int(number))
        if found is None:
            raise NotFoundError(
                "no_case", "There is no such case, or it was archived; 'tollgate label' still takes it."
            )
        return found

    async def _show_queue(self, wanted: Filter, session: Session, query: Form) -> Answer:
        now_us = self._clock_us()
        cases = await asyncio.to_thread(self._queue.first, wanted, now_us, MAX_SHOWN)
        numbers = await asyncio.to_thread(self._queue.numbers)
        claims = {one.number: self._queue.claimed(one.number, session.actor, now_us) for one in cases}
        return await asyncio.to_thread(
            self._pages.render, "queue.html", session=session, wanted=wanted, cases=cases, claims=claims,
            numbers=numbers, now_us=now_us, most=MAX_SHOWN, done=query.get("done", ""), last=query.get("last", ""),
        )  # fmt: skip

    async def _next(self, wanted: Filter, session: Session, query: Form) -> Answer:
        case = await asyncio.to_thread(self._queue.next, wanted, session.actor, self._clock_us())
        more = {name: query[name] for name in ("done", "last") if query.get(name)}
        place = "queue" if case is None else f"cases/{case.number}"
        return redirect(f"{PATH}/{place}?{wanted.query(**more)}")

    async def _show_case(
        self, payment: Payment, wanted: Filter, session: Session, *, done: str = "", stale: bool = False
    ) -> Answer:
        now_us = self._clock_us()
        findings = await asyncio.to_thread(self._cases.findings, payment.transaction_id)
        near, looked = await asyncio.to_thread(neighbours, self._cases, payment, self._reader, now_us)
        entries = await asyncio.to_thread(hits, self._controls, payment, self._reader)
        names = [] if payment.bundle is None else await asyncio.to_thread(self._feature_names, payment.bundle)
        values = [] if payment.features is None else np.frombuffer(payment.features, dtype="<f8").tolist()
        fields = fields_of(payment)
        return await asyncio.to_thread(
            self._pages.render, "case.html", 409 if stale else 200, session=session, payment=payment,
            decision=decision_of(payment), fields=fields, findings=findings, near=near, looked=looked, look=LOOK,
            entries=entries, wanted=wanted,
            features=list(zip(names, values, strict=True)) if len(names) == len(values) else [],
            claim=self._queue.claim(payment.number, session.actor, now_us), stale=stale, done=done, now_us=now_us,
            may_list=self._sessions.may_list(session), expiries=EXPIRIES,
            listed=[name for name in self._reader.schema.entities if text_of(self._reader, name, fields)],
            case_loss=next((one.loss_minor for one in self._queue.some([payment.number])), None),
        )  # fmt: skip

    async def _settle(self, payment: Payment, form: Form, wanted: Filter, session: Session) -> Answer:
        if form.get("disposition") not in tuple(Disposition):
            raise InputError("bad_disposition", f"Expected one of {', '.join(Disposition)}.")
        disposition, note = Disposition(form["disposition"]), form.get("note", "").strip()
        if len(note) > MAX_NOTE:
            raise InputError("bad_note", f"Expected a note of at most {MAX_NOTE} characters, but got {len(note)}.")
        if payment.answer is None:
            raise InputError("no_case", "Expected a decision of this server, but this payment was imported.")
        async with self._one_at_a_time:
            findings = await asyncio.to_thread(self._cases.findings, payment.transaction_id)
            if findings.revision != form.get("seen"):
                if not _repeats(findings.all, disposition, session.actor):
                    return await self._show_case(payment, wanted, session, stale=True)
            else:
                await self._record(payment, disposition, note, findings.all, session)
        self._queue.close([payment.transaction_id])
        return redirect(f"{PATH}/next?{wanted.query(done=disposition.value, last=payment.number)}")

    async def _record(
        self, payment: Payment, disposition: Disposition, note: str, before: Sequence[Finding], session: Session
    ) -> None:
        verdict = _VERDICTS.get(disposition)
        if verdict is None and any(one.source == LabelSource.ANALYST for one in before):
            raise ConflictError(
                "has_label", "An analyst has judged this payment; take that back by the opposite verdict instead."
            )
        if verdict is not None:
            label = Label(payment.transaction_id, verdict == "is fraud", LabelSource.ANALYST)
            (result,) = await self._take_labels([label], session.actor)
            error = refusal_of(label, result)
            if error is not None:
                raise error
        now_us = self._clock_us()
        await asyncio.to_thread(
            self._cases.dispose, payment.transaction_id, disposition, note, session.actor, now_us
        )  # fmt: skip
        self._measures.disposed(disposition)

    async def _list(self, payment: Payment, form: Form, wanted: Filter, session: Session) -> Answer:
        if not self._sessions.may_list(session):
            raise ScopeError("no_scope", "Lists are changed with a key of scope 'admin'; sign in with one.")
        column, kind, expires = form.get("column", ""), form.get("list", ""), form.get("expires", "")
        if column not in self._reader.schema.entities or kind not in tuple(ListKind) or expires not in EXPIRIES:
            raise InputError("bad_entry", "Expected a list, a column of this payment and when the entry expires.")
        value = text_of(self._reader, column, fields_of(payment))
        now_us = self._clock_us()
        until_us = None if expires == "never" else now_us + parse_duration_us(expires)
        entry = ListEntry(
            ListKind(kind), column, value, form.get("reason", "").strip(), session.actor, now_us, until_us
        )
        await asyncio.to_thread(self._controls.add_entry, entry, now_us)
        return redirect(f"{_CASES}{payment.number}?{wanted.query(done='listed')}")


def _repeats(findings: Sequence[Finding], disposition: Disposition, actor: str) -> bool:
    """Return whether the newest finding is the same one of the same person: the button was pressed twice."""
    newest = findings[-1] if findings else None
    same = (disposition.value, _VERDICTS.get(disposition))
    return newest is not None and newest.kind in same and newest.by == actor


def _fields(text: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        raise InputError("bad_form", f"Expected at most {MAX_FIELDS} fields.") from None


def _same_origin(request: Request) -> bool:
    """Return whether a form was sent from a page of this server, as far as the browser says."""
    origin = request.header(b"origin")
    return origin is None or urlsplit(origin.decode("latin-1")).netloc.encode("latin-1") == request.header(b"host")


def _is_secure(request: Request) -> bool:
    return request.header(b"x-forwarded-proto") == b"https"
