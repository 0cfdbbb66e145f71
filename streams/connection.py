"""Why brokers cannot be reached, in words that say what to set.

aiokafka logs the cause of a failed start, then raises `Unable to bootstrap` for all of them alike: a wrong password, a
certificate that has expired, a name that is not known. So after such a failure each broker is tried once more here.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiokafka.conn import create_conn
from aiokafka.errors import IllegalSaslStateError, KafkaConnectionError, KafkaError, UnsupportedSaslMechanismError
from aiokafka.protocol.metadata import MetadataRequest

from streams.settings import Settings

TRY_SECONDS = 5.0
"""Given to a broker to answer; the client that failed has waited for longer."""

MAX_REASONS = 3
"""Brokers whose reasons are told; in a large cluster they are all alike."""

SASL_AUTHENTICATION_FAILED = 58
"""Kafka's code for a user or password that is not right. aiokafka makes its class for it at run time."""

# OpenSSL's X509_V_ERR_*, which `ssl` hands on as numbers.
NOT_YET_VALID, EXPIRED = 9, 10
UNKNOWN_ISSUERS = frozenset({2, 18, 19, 20, 21})
OTHER_NAMES = frozenset({62, 64})


def reason_of(error: BaseException, settings: Settings | None = None) -> str:
    """What a Kafka client raised, in one line; with settings, what kept it from connecting is found out."""
    text = re.sub(r"\s+", " ", str(error)).strip() or type(error).__name__
    if "bootstrap" not in text.lower():
        return text
    if settings is None:
        return "not reachable, or they refused who we say we are (security_protocol, sasl_*, ssl_*)"
    return why_unreachable(settings)


def why_unreachable(settings: Settings) -> str:
    """Try each broker and say in a line what went wrong, and which setting to look at.

    Blocks for up to `TRY_SECONDS`, whether or not an event loop runs: whoever asks has nothing else left to do.
    """
    with ThreadPoolExecutor(1) as thread:
        found = thread.submit(asyncio.run, check_connection(settings)).result()
    return found or "could not be reached a moment ago, and can be now: try again"


async def check_connection(settings: Settings) -> str | None:
    """What keeps us from every broker, in a line; None when one of them lets us in."""
    servers = settings.brokers.split(",")
    with _silent_library():
        failures = await asyncio.gather(*(_try(settings, server) for server in servers))
    found: dict[str, str] = {}
    for server, failure in zip(servers, failures, strict=True):
        if failure is None:
            return None
        found.setdefault(failure, server)
    if len(found) == 1:
        return failures[0]
    return "; ".join(f"{server}: {failure}" for failure, server in list(found.items())[:MAX_REASONS])


async def _try(settings: Settings, server: str) -> str | None:
    """Connect and ask one question; what is wrong in words, None when nothing is."""
    options = settings.client_options()
    del options["bootstrap_servers"]
    host, _, port = server.rpartition(":")
    try:
        async with asyncio.timeout(TRY_SECONDS):
            connection = await create_conn(host.strip("[]"), int(port), **options)
            try:
                # A listener that wants to know who comes closes the connection only at the first real question.
                await connection.send(MetadataRequest([]))
            finally:
                await connection.close()
    except (KafkaError, OSError, EOFError) as error:
        return _words(error, settings, host)
    return None


def _words(error: BaseException, settings: Settings, host: str) -> str:
    if isinstance(error, KafkaConnectionError) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, ssl.SSLCertVerificationError):
        return _broker_certificate(error, settings, host)
    if isinstance(error, ssl.SSLError):
        return _tls(error, settings)
    if isinstance(error, KafkaError):
        return _sasl(error, settings)
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there: is the broker up, and are host and port in brokers right?"
    if isinstance(error, socket.gaierror):
        return f"there is no host {host}: see brokers"
    if isinstance(error, TimeoutError):
        return f"no answer within {TRY_SECONDS:.0f} s: see brokers and security_protocol ({settings.security_protocol})"
    if isinstance(error, EOFError | ConnectionResetError | BrokenPipeError):
        return (
            f"closed the connection, as a listener does that does not speak {settings.security_protocol}: "
            "set security_protocol"
        )
    return re.sub(r"\s+", " ", str(error)) or type(error).__name__


def _sasl(error: KafkaError, settings: Settings) -> str:
    if getattr(error, "errno", None) == SASL_AUTHENTICATION_FAILED:
        return (
            f"refused user {settings.sasl_username} with {settings.sasl_mechanism}: the user is not known, or the "
            "password is wrong. Set sasl_username and sasl_password, or another sasl_mechanism"
        )
    if isinstance(error, UnsupportedSaslMechanismError):
        return f"does not offer {settings.sasl_mechanism}: set sasl_mechanism"
    if isinstance(error, IllegalSaslStateError):
        return "asks nobody for a password: set security_protocol to PLAINTEXT or SSL"
    return re.sub(r"\s+", " ", str(error))


def _broker_certificate(error: ssl.SSLCertVerificationError, settings: Settings, host: str) -> str:
    """What we have against the broker's certificate."""
    authority = settings.ssl_ca_file or "this system's CAs"
    if error.verify_code == EXPIRED:
        return "its certificate, or its CA's, has expired: the broker needs a new one, or set ssl_ca_file to a new CA"
    if error.verify_code == NOT_YET_VALID:
        return "its certificate is not valid yet: is this machine's clock right?"
    if error.verify_code in UNKNOWN_ISSUERS:
        return f"its certificate is of a CA that is not among {authority}: set ssl_ca_file"
    if error.verify_code in OTHER_NAMES:
        return f"its certificate is not for the name {host}: set brokers to the names that the certificate holds"
    return f"its certificate is not good: {error.verify_message}"


def _tls(error: ssl.SSLError, settings: Settings) -> str:
    """What the broker has against our certificate, or that it does not speak TLS."""
    reason = error.reason or ""
    if "ALERT" not in reason or not ("CERT" in reason or "UNKNOWN_CA" in reason):
        return f"no TLS with it ({reason or error}): does security_protocol={settings.security_protocol} fit this port?"
    certificate = settings.ssl_cert_file
    if certificate is None:
        return "wants a certificate of us: set ssl_cert_file and ssl_key_file"
    expired = _expired_at(certificate)
    if expired is not None:
        return f"refused our certificate {certificate}, which expired on {expired}: set ssl_cert_file to a new one"
    return (
        f"refused our certificate {certificate}: is it of a CA that the brokers trust? Set ssl_cert_file and "
        "ssl_key_file"
    )


def _expired_at(certificate: Path) -> str | None:
    """The day on which a certificate expired, None when it is good. Java's brokers do not say that it is this."""
    # Not public, and the only reader of certificates in the standard library.
    decoded: dict[str, Any] = ssl._ssl._test_decode_cert(str(certificate))  # type: ignore[attr-defined]
    until = datetime.fromtimestamp(ssl.cert_time_to_seconds(decoded["notAfter"]), UTC)
    return None if until > datetime.now(UTC) else until.strftime("%Y-%m-%d")


@contextmanager
def _silent_library() -> Iterator[None]:
    """It logs each address that it fails to reach; what is returned says so once."""
    library = logging.getLogger("aiokafka")
    level = library.level
    library.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        library.setLevel(level)
