"""TLS: a client that trusts the certificate talks to the port; older protocols and wrong files are refused."""

import asyncio
import ssl
import subprocess

import pytest

from tollgate.errors import ConfigError
from tollgate.serve.tls import tls_context


def make(folder, name, *options):
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", *(options or ("-nodes",)),
         "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem"],
        check=True, capture_output=True, timeout=30,
    )  # fmt: skip
    (folder / f"{name}.key").chmod(0o600)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    make(folder, "one")
    make(folder, "two")
    make(folder, "closed", "-passout", "pass:secret")
    return folder


@pytest.fixture
def context(folder):
    return tls_context(str(folder / "one.pem"), str(folder / "one.key"))


def talk(context, client):
    """Send a line through a real socket; return the answer, the protocol and the cipher."""

    async def echo(reader, writer):
        try:
            writer.write(b"got " + await reader.readline())
            await writer.drain()
        finally:
            writer.close()

    async def main():
        server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=context)
        async with server:
            port = server.sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname="localhost")
            writer.write(b"hello\n")
            answer = await reader.readline()
            wire = writer.get_extra_info("ssl_object")
            told = answer, wire.version(), wire.cipher()[0], wire.selected_alpn_protocol()
            writer.close()
            await writer.wait_closed()
            return told

    return asyncio.run(main())


def client_of(folder, name="one", newest=None):
    client = ssl.create_default_context(cafile=folder / f"{name}.pem")
    client.set_alpn_protocols(["h2", "http/1.1"])
    if newest is not None:
        client.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        client.maximum_version = newest
    return client


def test_a_client_talks_over_tls_1_3(context, folder):
    """The newest protocol is spoken, and HTTP/1.1 is what is agreed on."""
    answer, version, _, agreed = talk(context, client_of(folder))
    assert (answer, version, agreed) == (b"got hello\n", "TLSv1.3", "http/1.1")


def test_tls_1_2_is_spoken_with_forward_secrecy(context, folder):
    """The oldest protocol that is spoken takes authenticated ephemeral ciphers alone."""
    answer, version, cipher, _ = talk(context, client_of(folder, newest=ssl.TLSVersion.TLSv1_2))
    assert (answer, version) == (b"got hello\n", "TLSv1.2")
    assert cipher.startswith("ECDHE-")
    assert "GCM" in cipher or "CHACHA20" in cipher


def test_weak_ciphers_are_refused(context, folder):
    """A client that has CBC ciphers alone gets no connection."""
    client = client_of(folder, newest=ssl.TLSVersion.TLSv1_2)
    client.set_ciphers("ECDHE-ECDSA-AES128-SHA256:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        talk(context, client)


def test_older_protocols_are_not_in_the_settings(context):
    """TLS 1.1 and older are switched off; so is renegotiation."""
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION


def test_a_client_that_trusts_another_certificate_is_not_served(context, folder):
    """What the server shows is the certificate that was configured."""
    with pytest.raises(ssl.SSLCertVerificationError):
        talk(context, client_of(folder, "two"))


def test_without_files_there_is_no_tls():
    """Neither setting is plain HTTP."""
    assert tls_context(None, None) is None


@pytest.mark.parametrize(
    ("cert", "key", "message"),
    [
        ("one.pem", None, "only one of them is set"),
        (None, "one.key", "only one of them is set"),
        ("none.pem", "one.key", "tls_cert: expected a file that can be read"),
        ("one.pem", "none.key", "tls_key: expected a file that can be read"),
        ("one.pem", "two.key", "but it is another"),
        ("one.pem", "closed.key", "not to be encrypted"),
        ("one.key", "one.key", "both PEM"),
        ("one.pem", "one.pem", "closed to others"),
    ],
)
def test_wrong_files_are_named(folder, cert, key, message):
    """Missing, mismatched, encrypted and open files each end in an error that says so."""
    with pytest.raises(ConfigError, match=message):
        tls_context(cert and str(folder / cert), key and str(folder / key))
