"""A server that goes away: what was acknowledged is there once, and nobody writes who has lost the right to."""

import contextlib
import socket
import threading

import pytest
from sqlalchemy.engine import make_url

import postgres_service
from ledger.recording import answer, bodies, body, group, past
from tollgate.errors import LedgerError
from tollgate.label import Label, LabelSource
from tollgate.ledger import LEDGER_MOVED, Ledger, SharedLedger
from tollgate.ledger.control_tables import METADATA
from tollgate.ledger.shared_tables import SHARED

KINDS = [Ledger, SharedLedger]


@pytest.fixture
def url(postgres_server):
    return postgres_server.ledger()


@pytest.fixture(scope="module")
def fragile():
    """A server of our own, to be killed."""
    server = postgres_service.start("fsync=off")
    yield server
    server.close()


class Proxy:
    """Stands between a client and the server, and can cut the connection after a request and before its answer."""

    def __init__(self, url):
        self._to = (make_url(url).host, make_url(url).port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = make_url(url).set(port=self._listener.getsockname()[1]).render_as_string(hide_password=False)
        self.cut_at = None  # bytes in a request, whose answer is not passed on
        self.cut = 0
        self._sockets = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._to)
                self._sockets += [client, server]
                doomed = threading.Event()
                for one, other, asks in ((client, server, True), (server, client, False)):
                    threading.Thread(target=self._pass, args=(one, other, asks, doomed), daemon=True).start()

    def _pass(self, one, other, asks, doomed):
        with contextlib.suppress(OSError):
            while data := one.recv(1 << 20):
                if asks and self.cut_at is not None and self.cut_at in data:
                    self.cut_at = None
                    doomed.set()
                if not asks and doomed.is_set():
                    self.cut += 1
                    break
                other.sendall(data)
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self):
        """Cut all."""
        for one in [self._listener, *self._sockets]:
            one.close()


@pytest.fixture
def proxy(url):
    proxy = Proxy(url)
    yield proxy
    proxy.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_group_whose_acknowledgement_was_lost_is_found_and_not_written_again(open_ledger, proxy, kind):
    """The server made it durable, and the connection died before it could say so."""
    ledger = open_ledger(proxy.url, kind=kind)
    ledger.append(group("a"))
    proxy.cut_at = body("b")
    with pytest.raises(LedgerError, match="cannot be reached"):
        ledger.append(group("b", "c"), ledger.hashes(["b", "c"]))
    assert proxy.cut == 1
    assert ledger.record(group("b", "c")) == {name: (body(name), answer(name)) for name in "bc"}
    ledger.append(group("d"))
    assert bodies(ledger) == [body(name) for name in "abcd"]
    assert ledger.find(["d"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_was_killed_is_connected_again_and_nothing_is_lost(open_ledger, fragile, kind):
    """While it is away every call says so; afterwards the same ledger goes on."""
    ledger = open_ledger(fragile.ledger(), kind=kind)
    done = []
    for turn in range(3):
        names = [f"t{turn}-{i}" for i in range(5)]
        ledger.append(group(*names))
        done += names
        fragile.kill()
        late = group(f"late{turn}")
        for _ in range(2):
            with pytest.raises(LedgerError, match="tried again with every request"):
                ledger.record(late)
        with pytest.raises(LedgerError, match="tried again"):
            ledger.outcomes()
        fragile.start()
        assert ledger.record(late) == {}
        done += late.ids
    assert bodies(ledger) == [body(name) for name in done]
    assert ledger.find(done).keys() == set(done)
    assert ledger.transactions == len(done)


def end_sessions(server, url):
    """End all sessions of a ledger's schema as an operator would, or a firewall."""
    schema = url.rsplit("%3D", 1)[1]
    server.run("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = "
               f"(hashtext('{schema}')::bigint & 4294967295)::oid")  # fmt: skip


def test_who_loses_the_connection_loses_the_right_to_write(open_ledger, url, postgres_server):
    """Another process takes over; the one before may not go on as if it knew all."""
    first = open_ledger(url)
    first.append(group("a"))
    end_sessions(postgres_server, url)
    with open_ledger(url) as second:
        with pytest.raises(LedgerError, match="terminating connection"):
            first.append(group("b"), first.hashes(["b"]))
        with pytest.raises(LedgerError, match="another process writes"):
            first.record(group("b"))
        second.append(group("x"))
    with pytest.raises(LedgerError) as caught:
        first.record(group("b"))
    assert caught.value.code == LEDGER_MOVED
    assert first.find(["a", "x"]).keys() == {"a", "x"}
    assert first.record(group("b")) == {}
    assert bodies(first) == [body(name) for name in "axb"]


def test_a_connection_that_was_lost_while_nobody_else_wrote_is_no_reason_to_begin_anew(
    open_ledger, url, postgres_server
):
    """The lock is taken again, and what is known is still all that there is."""
    ledger = open_ledger(url)
    ledger.append(group("a"))
    end_sessions(postgres_server, url)
    with pytest.raises(LedgerError, match="terminating connection"):
        ledger.append(group("b"), ledger.hashes(["b"]))
    assert ledger.record(group("b")) == {}
    with pytest.raises(LedgerError, match="another process writes"):
        open_ledger(url)
    assert bodies(ledger) == [body("a"), body("b")]


def test_an_import_whose_acknowledgement_was_lost_is_found(open_ledger, proxy):
    """Groups and labels are there together."""
    ledger = open_ledger(proxy.url)
    label = Label("a", is_fraud=True, available_us=1, source=LabelSource.ANALYST)
    proxy.cut_at = b"COMMIT"
    with pytest.raises(LedgerError, match="cannot be reached"):
        ledger.import_history(past("a", "b"), [label], "me")
    assert ledger.find(["a", "b"]).keys() == {"a", "b"}
    assert (ledger.transactions, ledger.labels) == (2, 1)


def test_the_migrations_make_the_tables_that_the_code_declares(open_ledger, url):
    """Else a new ledger and a migrated one differ."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    def declared(_object, name, kind, reflected, _other):
        return not (kind == "table" and reflected and name.startswith(("groups_", "ids_")))

    ledger = open_ledger(url)
    with ledger.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": declared})
        assert compare_metadata(context, [METADATA, SHARED]) == []


@pytest.mark.parametrize(("durability", "says"), [("fsync", "on"), ("os", "off")])
def test_durability_sets_when_the_server_answers(open_ledger, url, durability, says):
    """On the connection that every decision waits for, and on the others."""
    ledger = open_ledger(url, durability)
    assert ledger._writer._session.run("SHOW synchronous_commit") == [(says,)]
    with ledger.engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == says


def test_a_standby_is_refused_at_the_start(open_ledger, url):
    """Not at the first decision."""
    open_ledger(url).close()
    with pytest.raises(LedgerError, match="target_session_attrs=read-write"):
        Ledger(url + "%20-cdefault_transaction_read_only%3Don")
    assert bodies(open_ledger(url + "%20-cdefault_transaction_read_only%3Don", write=False)) == []


@pytest.mark.parametrize(
    ("change", "advice"),
    [
        ({"port": 1}, "cannot be reached"),
        ({"database": "nowhere"}, 'database "nowhere" does not exist; its server'),
        ({"drivername": "mysql+pymysql"}, "expected such as"),
        ({"drivername": "postgresql+pg8000"}, "tollgate"),
    ],
)
def test_a_server_that_cannot_be_used_is_named_without_the_password(url, change, advice):
    """Before anything is decided."""
    wrong = make_url(url).set(password="hidden-word").set(**change)
    with pytest.raises(LedgerError, match=advice) as caught:
        Ledger(wrong.render_as_string(hide_password=False))
    assert "hidden-word" not in caught.value.message


def test_a_ledger_shows_its_url_without_the_password(open_ledger, url):
    """Commands print it."""
    ledger = open_ledger(make_url(url).set(password="hidden-word").render_as_string(hide_password=False))
    assert "hidden-word" not in ledger.url
    assert "***" in ledger.url


def test_a_missing_right_is_named(url, postgres_server):
    """A user who may connect and not create tables."""
    postgres_server.run("CREATE ROLE reader LOGIN")
    postgres_server.run(f"GRANT USAGE ON SCHEMA {url.rsplit('%3D', 1)[1]} TO reader")
    with pytest.raises(LedgerError, match="rights to create and change tables"):
        Ledger(make_url(url).set(username="reader").render_as_string(hide_password=False))


def test_an_old_server_s_groups_and_a_new_one_s_are_read_in_one_order(open_ledger, url):
    """Many groups of many sizes, read in small steps by the server's cursor."""
    ledger = open_ledger(url, "os")
    names = []
    for size in [1, 16, 256, 1, 1000, 3]:
        some = [f"t{len(names) + i}" for i in range(size)]
        ledger.append(group(*some))
        names += some
    for after in (0, 1, 17, 900, len(names)):
        assert bodies(ledger, after) == [body(one) for one in names[after:]]
