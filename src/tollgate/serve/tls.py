"""TLS for the server's ports."""

from __future__ import annotations

import ssl
from pathlib import Path

from tollgate.errors import ConfigError
from tollgate.secret import check_private

# Forward secrecy and authenticated encryption alone (RFC 9325); TLS 1.3 has its own list, all of that kind.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


def tls_context(cert: str | None, key: str | None) -> ssl.SSLContext | None:
    """Return the TLS settings of a server, 1.2 and newer; None where neither file is configured.

    Args:
        cert: `[serve] tls_cert`: a file with the certificate and those between it and the root, PEM.
        key: `[serve] tls_key`: a file with its private key, PEM, not encrypted and closed to others.

    Raises:
        ConfigError: One of them is missing, cannot be read or is not PEM, or they do not belong together.
    """
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise ConfigError("bad_tls", "[serve] expected tls_cert and tls_key, but only one of them is set; set both")
    _check_readable(Path(cert), "tls_cert")
    _check_readable(Path(key), "tls_key")
    check_private(Path(key).stat(), Path(key), "[serve] tls_key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION  # asked for again and again it costs the server, not the client
    context.set_alpn_protocols(["http/1.1"])

    def no_password() -> str:
        raise ConfigError("bad_tls", f"[serve] tls_key: expected {key} not to be encrypted; decrypt it for this user")

    try:
        context.load_cert_chain(cert, key, password=no_password)
    except ssl.SSLError as error:
        if error.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
            message = f"[serve] expected the key in {key} to be that of the certificate in {cert}, but it is another"
        else:
            message = (
                f"[serve] expected a certificate in {cert} and its key in {key}, both PEM: {error.reason or error}"
            )
        raise ConfigError("bad_tls", message) from error
    return context


def _check_readable(path: Path, setting: str) -> None:
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise ConfigError(
            "bad_tls",
            f"[serve] {setting}: expected a file that can be read at {path}: {error.strerror}",
            file=str(path),
        ) from error
