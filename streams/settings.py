"""Everything an operator can set: one typed object, read from the environment, a TOML file and flags."""

from __future__ import annotations

import difflib
import logging
import os
import re
import ssl
import tomllib
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

log = logging.getLogger(__name__)

ENV_PREFIX = "STILLWATCH_"
CONFIG_VARIABLE = "STILLWATCH_CONFIG"

OTHER_VARIABLES = frozenset({CONFIG_VARIABLE, "STILLWATCH_SHARED", "STILLWATCH_TEST_SEED"})
"""Names with our prefix that are no settings: the file of settings, and what tests and benches read."""

_SERVICE_VARIABLE = re.compile(r"_SERVICE_(HOST|PORT(_\w+)?)$|_PORT_\d+_(TCP|UDP|SCTP)(_\w+)?$")
"""Kubernetes gives every pod such variables for every service, also for one that is named like us."""

RECORD_HEADROOM_BYTES = 64 * 1024
"""What a record may grow by on its way: its headers, and those that a dead letter or a re-keyed record adds."""


SECRETS = frozenset({"sasl_password", "ssl_key_password", "account_hash_key"})
"""Settings whose value no message repeats."""

_given_config: ContextVar[Path | None] = ContextVar("given_config", default=None)


class SettingsError(ValueError):
    """A setting is wrong; the message is one line that names it and says what is allowed."""


class OwnVariables(EnvSettingsSource):
    """The environment, without what Kubernetes puts there under a name of ours.

    A service called `stillwatch-metrics` gives every pod beside it `STILLWATCH_METRICS_PORT=tcp://10.0.0.1:9464`.
    """

    def __call__(self) -> dict[str, Any]:
        """Settings by name."""
        given = super().__call__()
        of_services = [name for name, value in given.items() if _is_of_a_service(name.upper(), str(value))]
        for name in of_services:
            log.warning(
                "%s in the environment is an address that Kubernetes gives for a service, no setting: passed over",
                (ENV_PREFIX + name).upper(),
            )
        return {name: value for name, value in given.items() if name not in of_services}


class Settings(BaseSettings):
    """Settings of every command. Flags win over the environment, the environment over the file, the file over defaults.

    The unit stands in each name. A field `x` is read from `STILLWATCH_X`, or from the key `x` of the TOML file that
    `STILLWATCH_CONFIG` or `--config` names. `load_settings` turns what is wrong into one line.
    """

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="forbid", frozen=True, str_strip_whitespace=True)

    # Kafka
    brokers: str = Field("127.0.0.1:9092", description="Kafka brokers, host:port, several separated by commas.")
    topic_prefix: str = Field(
        "stillwatch.", pattern=r"^[A-Za-z0-9._-]{0,200}$", description="Put before the name of every topic."
    )
    group_id: str = Field("stillwatch", min_length=1, max_length=200, description="Consumer group of the workers.")
    instance_id: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="Static membership: a name that stays with a worker over restarts, such as its pod's.",
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How to speak to the brokers."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="SASL mechanism, with a SASL_ protocol."
    )
    sasl_username: str | None = Field(None, description="SASL user.")
    sasl_password: SecretStr | None = Field(None, description="SASL password. Better in the environment than a flag.")
    sasl_password_file: Path | None = Field(None, description="... or a file that holds it, and nothing else.")
    ssl_ca_file: Path | None = Field(None, description="CA certificates (PEM); the system's when absent.")
    ssl_cert_file: Path | None = Field(None, description="Client certificate (PEM).")
    ssl_key_file: Path | None = Field(None, description="Key of the client certificate (PEM).")
    ssl_key_password: SecretStr | None = Field(None, description="Password of that key, when it has one.")
    request_timeout_seconds: float = Field(20.0, ge=1, le=600, description="Wait for an answer of a broker.")
    session_timeout_seconds: float = Field(
        10.0, ge=6, le=600, description="A worker not heard of for so long loses its partitions (brokers want >= 6)."
    )
    rebalance_timeout_seconds: float = Field(15.0, ge=1, le=600, description="Time to hand partitions over.")
    start_at: Literal["earliest", "latest"] = Field(
        "earliest", description="Where a group without committed offsets starts."
    )
    check_topics: bool = Field(
        True, description="Check at start that all topics are there and fit. Off only for brokers without an admin API."
    )
    partitions: int = Field(4, ge=1, le=10_000, description="Partitions that `topics create` gives the topics.")
    replication_factor: int = Field(1, ge=1, le=10, description="Replicas that `topics create` gives; 3 in production.")

    # Detection
    baseline_file: Path | None = Field(None, description="Baseline made by `fit`; the built-in one when absent.")
    false_findings_per_1000_account_days: float = Field(
        1.0, gt=0, le=1000, description="False findings that you can live with, per 1,000 organic account-days."
    )
    finding_quiet_hours: float = Field(72.0, gt=0, le=8760, description="A finding closes after so much quiet.")
    state_expiry_days: float = Field(
        45.0,
        gt=0,
        le=3650,
        description="An account silent for so long (event time) starts anew; after twice as long its state is deleted.",
    )
    canary_prefix: str = Field(
        "",
        pattern=r"^([A-Za-z0-9._:/-]{8,150})?$",
        description="Accounts whose name begins so are tests of yours (`stillwatch canary`), marked as such in alerts. "
        "Random, and what your gateway gives no customer (`canary-$(openssl rand -hex 8)-`); empty: none.",
    )
    embedding_model: str | None = Field(
        None, description="Meant by records with an embedding and no `embedding_model`; the baseline's when absent."
    )
    max_clock_skew_hours: float = Field(
        24.0, gt=0, le=8760, description="A request's time may be so far after its record's own timestamp."
    )
    max_record_bytes: int = Field(
        1024 * 1024, ge=4096, le=64 * 1024 * 1024, description="Larger records are dead letters."
    )

    # State
    store: Literal["memory", "rocksdict"] = Field(
        "rocksdict", description="Local store of states: memory (replayed at each start) or rocksdict (on disk)."
    )
    data_dir: Path = Field(
        Path("stillwatch-data"), description="Directory of the rocksdict store; one for each worker."
    )
    max_accounts: int = Field(
        100_000,
        ge=1,
        description="Accounts that the memory store keeps; beyond it the longest idle are forgotten and counted.",
    )
    slab_rows: int = Field(20_000, ge=16, le=5_000_000, description="Accounts held ready for scoring, up to 4 KB each.")
    rocksdict_cache_mib: int = Field(32, ge=1, le=65_536, description="Block cache of the store, for each partition.")

    # Checkpoint and batches
    checkpoint_interval_seconds: float = Field(
        2.0, ge=0.05, le=60, description="States and offsets are saved so often."
    )
    checkpoint_max_events: int = Field(20_000, ge=1, description="... or after so many events, whichever is first.")
    checkpoint_max_bytes: int = Field(
        32 * 1024 * 1024, ge=1024 * 1024, description="... or with so many bytes of alerts and dead letters waiting."
    )
    max_batch_records: int = Field(
        2_000,
        ge=1,
        le=100_000,
        description="Records scored at a stretch, of one partition. Bounds the pause they cause.",
    )

    # Dead letters, logs, metrics, traces
    dead_letter_content: Literal["original", "redacted"] = Field(
        "original", description="Whether dead letters keep the record's bytes; they may hold prompts."
    )
    account_ids: Literal["plain", "hashed"] = Field("plain", description="How logs name accounts.")
    account_hash_key: SecretStr | None = Field(None, description="Key of the hashes, needed for `account_ids=hashed`.")
    log_format: Literal["json", "text"] = Field("json", description="One JSON object a line, or text.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least severe level logged.")
    metrics_host: str = Field("127.0.0.1", description="Address of /metrics, /ready and /live.")
    metrics_port: int = Field(9464, ge=0, le=65_535, description="Port of /metrics, /ready and /live; 0: none.")
    otlp_endpoint: str = Field(
        "",
        max_length=500,
        description="OpenTelemetry collector that a worker sends traces to (OTLP over HTTP), such as "
        "http://127.0.0.1:4318; empty: none. Needs `stillwatch[otel]`; the rest is said by OpenTelemetry's own "
        "variables (OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS, ...).",
    )

    # Ends
    shutdown_grace_seconds: float = Field(
        30.0, ge=1, le=3600, description="After a stop signal; a worker that takes longer ends hard, with exit code 75."
    )
    watchdog_seconds: float = Field(
        300.0,
        ge=0,
        le=86_400,
        description="A worker that holds partitions and makes no progress for so long, since checkpoints fail (brokers "
        "that are away, a topic that refuses records) or it is stuck, ends with exit code 75; 0: off.",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, environment, file; no `.env` file is read from wherever the command happens to run."""
        environment, config = OwnVariables(settings_cls), _config_file()
        if config is None:
            return init_settings, environment
        return init_settings, environment, TomlConfigSettingsSource(settings_cls, config)

    @field_validator("brokers")
    @classmethod
    def _is_server_list(cls, value: str) -> str:
        for server in value.split(","):
            host, colon, port = server.strip().rpartition(":")
            if not (colon and host and port.isdigit() and 0 < int(port) < 65_536):
                raise ValueError(f"{server.strip()!r} is not host:port")
        return ",".join(server.strip() for server in value.split(","))

    @field_validator("otlp_endpoint")
    @classmethod
    def _is_collector(cls, value: str) -> str:
        """Without the path that every collector has for traces."""
        if value and not _is_web_address(value):
            raise ValueError(
                "not the http:// or https:// address of a collector, such as http://127.0.0.1:4318 "
                "(credentials belong into OTEL_EXPORTER_OTLP_HEADERS)"
            )
        return value.rstrip("/").removesuffix("/v1/traces")

    @field_validator("sasl_password_file", "ssl_ca_file", "ssl_cert_file", "ssl_key_file", "baseline_file")
    @classmethod
    def _is_file(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_file():
            raise ValueError(f"there is no file {value}")
        return value

    @model_validator(mode="after")
    def _belong_together(self) -> Settings:
        if self.sasl_password and self.sasl_password_file:
            raise ValueError("sasl_password and sasl_password_file are both set: give one of them")
        if self.security_protocol.startswith("SASL") and not (self.sasl_username and self._password()):
            raise ValueError(
                f"security_protocol={self.security_protocol} needs sasl_username and sasl_password "
                "(or sasl_password_file, which must not be empty)"
            )
        if (self.ssl_cert_file is None) != (self.ssl_key_file is None):
            raise ValueError("ssl_cert_file and ssl_key_file are needed together")
        if self.account_ids == "hashed" and not self.account_hash_key:
            raise ValueError("account_ids=hashed needs account_hash_key")
        if self.session_timeout_seconds > self.request_timeout_seconds:
            raise ValueError("session_timeout_seconds may not be above request_timeout_seconds")
        if self.finding_quiet_hours >= 24 * self.state_expiry_days:
            raise ValueError(
                f"finding_quiet_hours={self.finding_quiet_hours:g} must be shorter than "
                f"state_expiry_days={self.state_expiry_days:g} ({24 * self.state_expiry_days:g} hours)"
            )
        return self

    def _password(self) -> str | None:
        """Of SASL. A line end behind what the file holds is an editor's, no part of it."""
        if self.sasl_password_file is None:
            return _secret(self.sasl_password)
        try:
            return self.sasl_password_file.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"sasl_password_file {self.sasl_password_file}: {error}") from None

    @property
    def credential_files(self) -> tuple[Path, ...]:
        """The files that say who we are, and whom we trust."""
        named = (self.sasl_password_file, self.ssl_ca_file, self.ssl_cert_file, self.ssl_key_file)
        return tuple(path for path in named if path is not None)

    def ssl_context(self) -> ssl.SSLContext | None:
        """TLS context of the brokers' certificates and ours, None without TLS.

        Raises `SettingsError` when a file holds nothing of the kind, or key and certificate do not fit.
        """
        if not self.security_protocol.endswith("SSL"):
            return None
        try:
            context = ssl.create_default_context(cafile=_path(self.ssl_ca_file))
        except OSError as error:
            raise SettingsError(f"ssl_ca_file {self.ssl_ca_file}: no certificates (PEM) in it: {error}") from None
        if self.ssl_cert_file is not None:
            # Without a password OpenSSL would ask the terminal for the one of an encrypted key.
            password = _secret(self.ssl_key_password) or ""
            try:
                context.load_cert_chain(self.ssl_cert_file, self.ssl_key_file, password)
            except OSError as error:
                raise SettingsError(
                    f"ssl_cert_file {self.ssl_cert_file} and ssl_key_file {self.ssl_key_file}: not a certificate (PEM) "
                    f"and its key, or ssl_key_password is not the key's: {error}"
                ) from None
        return context

    def client_options(self) -> dict[str, Any]:
        """Keyword arguments for aiokafka's consumer, producer and admin client: where and how to connect."""
        options: dict[str, Any] = {
            "bootstrap_servers": self.brokers,
            "client_id": "stillwatch",
            "security_protocol": self.security_protocol,
            "ssl_context": self.ssl_context(),
            "request_timeout_ms": int(self.request_timeout_seconds * 1000),
        }
        if self.security_protocol.startswith("SASL"):
            options["sasl_mechanism"] = self.sasl_mechanism
            options["sasl_plain_username"] = self.sasl_username
            options["sasl_plain_password"] = self._password()
        return options

    def faust_options(self) -> dict[str, Any]:
        """Keyword arguments for `faust.App`; what Faust would do by default and must not has its reason here."""
        return {
            "broker": "kafka://" + self.brokers.replace(",", ";"),
            "broker_credentials": self._faust_credentials(),
            "broker_client_id": "stillwatch",
            "broker_request_timeout": self.request_timeout_seconds,
            "broker_session_timeout": self.session_timeout_seconds,
            "broker_rebalance_timeout": self.rebalance_timeout_seconds,
            "broker_heartbeat_interval": self.session_timeout_seconds / 5,
            "broker_max_poll_records": self.max_batch_records,
            "consumer_auto_offset_reset": self.start_at,
            "consumer_group_instance_id": self.instance_id,
            "consumer_max_fetch_size": max(1024 * 1024, self.max_record_bytes + RECORD_HEADROOM_BYTES),
            # Faust's own 0 and 16 KiB make a request for every few states.
            "producer_linger": 0.0,
            "producer_max_batch_size": 128 * 1024,
            "producer_max_request_size": self.max_record_bytes + RECORD_HEADROOM_BYTES,
            "producer_request_timeout": self.request_timeout_seconds,
            "datadir": str(self.data_dir),
            "store": "memory://" if self.store == "memory" else "rocksdb://",
            # Made on the fly, a changelog topic can lose its first records.
            "topic_allow_declare": False,
            "topic_disable_leader": True,
            "topic_replication_factor": self.replication_factor,
            "table_standby_replicas": 0,
            "stream_wait_empty": True,
            # Ours serves /metrics, /ready and /live; Faust's shows the contents of tables, on 0.0.0.0.
            "web_enabled": False,
            "worker_redirect_stdouts": False,
        }

    def _faust_credentials(self) -> Any:
        from faust.auth import SASLCredentials, SSLCredentials  # here: reading settings should not load Faust

        context = self.ssl_context()
        if self.security_protocol.startswith("SASL"):
            return SASLCredentials(
                username=self.sasl_username,
                password=self._password(),
                mechanism=self.sasl_mechanism,
                ssl_context=context,
            )
        return SSLCredentials(context) if context is not None else None


def load_settings(config: Path | None = None, **flags: Any) -> Settings:
    """Settings from flags (None: not given), the environment, and a TOML file (`config`, else `STILLWATCH_CONFIG`).

    Raises `SettingsError`, whose message is one line, when a value or a name is wrong.

    >>> load_settings(checkpoint_interval_seconds=0)
    Traceback (most recent call last):
    streams.settings.SettingsError: checkpoint_interval_seconds=0: Input should be greater than or equal to 0.05
    """
    _check_environment()
    token = _given_config.set(config)
    try:
        _check_config_file(_config_file())
        return Settings(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        raise SettingsError("; ".join(_line(problem) for problem in error.errors())) from None
    finally:
        _given_config.reset(token)


def _config_file() -> Path | None:
    named = _given_config.get() or os.environ.get(CONFIG_VARIABLE)
    return Path(named) if named else None


def _check_environment() -> None:
    """Refuse what is no setting: pydantic passes over it, and a misspelt name would leave a default in force."""
    known = {(ENV_PREFIX + name).upper() for name in Settings.model_fields}
    for given, value in os.environ.items():
        name = given.upper()
        if not name.startswith(ENV_PREFIX) or name in known | OTHER_VARIABLES or _is_of_a_service(name, value):
            continue
        words = [variable.removeprefix(ENV_PREFIX) for variable in sorted(known | {CONFIG_VARIABLE})]
        nearest = difflib.get_close_matches(name.removeprefix(ENV_PREFIX), words, n=1)
        hint = f"; did you mean {ENV_PREFIX}{nearest[0]}?" if nearest else "; `stillwatch config` lists the settings"
        raise SettingsError(f"{given} in the environment is not a setting{hint}")


def _is_of_a_service(name: str, value: str) -> bool:
    return bool(_SERVICE_VARIABLE.search(name)) or (name.endswith("_PORT") and "://" in value)


def _check_config_file(path: Path | None) -> None:
    if path is None:
        return
    try:
        tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read the configuration file {path}: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"the configuration file {path} is not TOML: {error}") from None


def _line(problem: Any) -> str:
    """One problem in words. Values of secrets and of anything long are not repeated."""
    message = str(problem["msg"]).removeprefix("Value error, ")
    name = ".".join(str(part) for part in problem["loc"])
    if not name:
        return message
    if problem["type"] == "extra_forbidden":
        return f"{name} is not a setting"
    value = problem.get("input")
    # An address with an @ may hold a password.
    showable = isinstance(value, str | int | float) and len(str(value)) < 60 and name not in SECRETS
    showable = showable and "@" not in str(value)
    shown = f"={value}" if showable else ""
    return f"{name}{shown}: {message}"


def _is_web_address(text: str) -> bool:
    """Whether a text is the address of a server and perhaps a path, with nobody's password in it."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    plain = not (parts.query or parts.fragment or "@" in parts.netloc or re.search(r"\s", text))
    return plain and parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0


def _path(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _secret(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()
