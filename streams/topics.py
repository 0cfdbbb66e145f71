"""The topics: their names, how they must be made, making them, checking them, comparing them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence, Set
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from schemas.durations import DAY_MS
from streams.connection import reason_of
from streams.settings import RECORD_HEADROOM_BYTES, Settings

DEAD_LETTER_RETENTION_DAYS = 3
"""Dead letters may hold prompts: long enough to look at one after a weekend, no longer."""

ALERT_RETENTION_DAYS = 90

COMPACTION_LAG_MS = 10 * 60 * 1000
"""`min.compaction.lag.ms` of the state topic: well above any pause of a worker, so that one that was stopped and comes
back finds the records behind its restore point still there."""

AT_LEAST = {"max.message.bytes", "min.insync.replicas", "min.compaction.lag.ms"}
"""Settings of which more than we ask for is as good."""


class TopicNames(NamedTuple):
    """Names of the topics, prefix included."""

    requests: str
    dead_letters: str
    alerts: str
    state: str

    @classmethod
    def of(cls, settings: Settings) -> TopicNames:
        """The names that settings give."""
        prefix = settings.topic_prefix
        return cls(f"{prefix}requests", f"{prefix}requests.dlq", f"{prefix}alerts", f"{prefix}state")


@dataclass(frozen=True)
class TopicSpec:
    """How a topic is made. `config` are Kafka's topic settings."""

    name: str
    partitions: int
    replication_factor: int
    config: dict[str, str] = field(default_factory=dict)


class TopicsError(Exception):
    """Topics are missing or do not fit, or brokers could not be asked; the message says what to do, in one line."""


def topic_specs(settings: Settings) -> list[TopicSpec]:
    """Every topic the service needs, as it should be made."""
    names = TopicNames.of(settings)
    largest = str(settings.max_record_bytes + RECORD_HEADROOM_BYTES)
    kept = {"cleanup.policy": "delete"}

    # Of three replicas two hold what is acknowledged, so that losing one broker loses nothing and stops nothing.
    safe = {"min.insync.replicas": "2"} if settings.replication_factor > 2 else {}

    def spec(name: str, config: dict[str, str]) -> TopicSpec:
        return TopicSpec(name, settings.partitions, settings.replication_factor, config | safe)

    return [
        spec(names.requests, kept | {"max.message.bytes": largest}),
        spec(
            names.dead_letters,
            kept | {"max.message.bytes": largest, "retention.ms": str(DEAD_LETTER_RETENTION_DAYS * DAY_MS)},
        ),
        spec(names.alerts, kept | {"retention.ms": str(ALERT_RETENTION_DAYS * DAY_MS)}),
        spec(
            names.state,
            {
                "cleanup.policy": "compact",
                "min.compaction.lag.ms": str(COMPACTION_LAG_MS),
                # A cold start reads all of it: keep what compaction has not got to yet small.
                "segment.ms": str(3600 * 1000),
                "min.cleanable.dirty.ratio": "0.2",
            },
        ),
    ]


async def create_topics(settings: Settings) -> dict[str, bool]:
    """Create what is missing; name of each topic, and whether this call made it. Existing topics are left as they are.

    So with every topic there, a user without the right to create them can call it. Raises `TopicsError` when the
    brokers refuse or cannot be reached.
    """
    made: dict[str, bool] = {}
    async with admin_of(settings) as admin:
        there = await _described(admin, TopicNames.of(settings))
        for spec in topic_specs(settings):
            made[spec.name] = spec.name not in there and await _create(admin, spec)
        await _until_there(admin, {name for name, new in made.items() if new}, settings.request_timeout_seconds)
    return made


async def _create(admin: AIOKafkaAdminClient, spec: TopicSpec) -> bool:
    """Whether it was missing."""
    new = NewTopic(spec.name, spec.partitions, spec.replication_factor, topic_configs=spec.config)
    response = await admin.create_topics([new])
    _, code, reason = response.topic_errors[0]
    if code not in (0, TopicAlreadyExistsError.errno):
        raise TopicsError(f"topic {spec.name} was refused: {for_code(code).__name__}: {reason}")
    return bool(code == 0)


async def _until_there(admin: AIOKafkaAdminClient, names: Set[str], seconds: float) -> None:
    """Wait until the brokers tell of topics: what is created is known to the controller first."""
    with suppress(TimeoutError):  # whoever wants them next finds them missing, and says so
        async with asyncio.timeout(seconds):
            while not names <= set(await _described(admin, names)):  # noqa: ASYNC110 - brokers call nobody
                await asyncio.sleep(0.05)


async def differences(settings: Settings) -> dict[str, list[str]]:
    """How the topics that are there differ from what `create_topics` makes with the same settings; a list for each.

    More partitions, more replicas and larger limits than asked for are no difference, nor are settings that we may not
    read, nor partitions and replicas that nobody has named. Each is worth a look and stops nothing: an operator may
    have had reasons. Raises `TopicsError`.
    """
    found: dict[str, list[str]] = {}
    async with admin_of(settings) as admin:
        there = await _described(admin, TopicNames.of(settings))
        for spec in topic_specs(settings):
            if spec.name in there:
                shape = _shape_differences(spec, there[spec.name], settings.model_fields_set)
                found[spec.name] = shape + _config_differences(spec, await topic_config(admin, spec.name))
    return found


def _shape_differences(spec: TopicSpec, replicas: Sequence[int], named: Set[str]) -> list[str]:
    """`replicas` of each partition that is there; `named` are settings that somebody gave."""
    found = []
    if "partitions" in named and len(replicas) < spec.partitions:
        found.append(f"{len(replicas)} partitions, not {spec.partitions}")
    if "replication_factor" in named and min(replicas) < spec.replication_factor:
        found.append(f"replication factor {min(replicas)}, not {spec.replication_factor}")
    return found


def _config_differences(spec: TopicSpec, config: dict[str, str]) -> list[str]:
    """`config` as the brokers tell it."""
    return [
        f"{key}={config[key]}, not {wanted}"
        for key, wanted in spec.config.items()
        if config.get(key, wanted) != wanted and not (key in AT_LEAST and int(config[key]) > int(wanted))
    ]


async def check_topics(settings: Settings) -> dict[str, int]:
    """Number of partitions of each topic, once they are all there, fit each other, and state is compacted.

    Raises `TopicsError` that names what is wrong and the command that puts it right.
    """
    names = TopicNames.of(settings)
    async with admin_of(settings) as admin:
        counts = {name: len(replicas) for name, replicas in (await _described(admin, names)).items()}
        missing = sorted(set(names) - set(counts))
        if missing:
            raise TopicsError(f"topics are missing: {', '.join(missing)}. `stillwatch topics create` makes them")
        if counts[names.requests] != counts[names.state]:
            raise TopicsError(
                f"{names.requests} has {counts[names.requests]} partitions and {names.state} {counts[names.state]}; "
                f"they must have the same number. Make {names.state} anew with `stillwatch topics create "
                f"--partitions {counts[names.requests]}` after deleting it (accounts start anew)"
            )
        policy = (await topic_config(admin, names.state)).get("cleanup.policy")
        # An administrator may keep us from reading configuration: then there is nothing to say.
        if policy is not None and "compact" not in policy:
            raise TopicsError(
                f"{names.state} has cleanup.policy={policy}, which loses accounts' states. "
                f"Set it to compact (kafka-configs --alter --topic {names.state})"
            )
    return counts


async def _described(admin: AIOKafkaAdminClient, names: Iterable[str]) -> dict[str, list[int]]:
    """Number of replicas of each partition, of those topics that are there."""
    # Asking for one by its name makes it, with the brokers' own settings, where they create topics automatically.
    there = set(names) & set(await admin.list_topics())
    described = await admin.describe_topics(sorted(there)) if there else []
    return {
        topic["topic"]: [len(partition["replicas"]) for partition in topic["partitions"]]
        for topic in described
        if topic["error_code"] == 0
    }


async def topic_config(admin: AIOKafkaAdminClient, name: str) -> dict[str, str]:
    """Settings of a topic; empty when we may not read them."""
    responses = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
    config: dict[str, str] = {}
    for response in responses:
        for resource in response.resources:
            if resource[0] == 0:
                config.update((entry[0], entry[1]) for entry in resource[4])
    return config


@asynccontextmanager
async def admin_of(settings: Settings) -> Any:
    """An admin client; whatever Kafka says in between becomes a `TopicsError`."""
    admin = AIOKafkaAdminClient(**settings.client_options())
    # It logs each address it fails to reach; the error below says so once.
    library = logging.getLogger("aiokafka")
    level = library.level
    library.setLevel(logging.CRITICAL)
    try:
        await admin.start()
        yield admin
    except (KafkaError, OSError) as error:
        raise TopicsError(f"brokers {settings.brokers}: {reason_of(error, settings)}") from None
    finally:
        await admin.close()
        library.setLevel(level)
