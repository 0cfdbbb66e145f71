"""Traces of a worker: where spans begin. Without `otlp_endpoint` nothing does, and OpenTelemetry is not even imported.

A span for each batch, with its steps; one for each alert, which joins the lab's traces; one for each checkpoint, with
what it waits for; one for each recovery. Never one for each record. No span holds a prompt, an account, or the text of
an exception, which may quote either.

`streams.open_telemetry` makes the spans. This is what the rest of the worker sees of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Final

from streams.settings import Settings, SettingsError

if TYPE_CHECKING:
    from schemas.alert import Alert
    from streams.ingest import Record
    from streams.transport.delivery import Outgoing

EXTRA: Final = "stillwatch[otel]"
"""What is to be installed for traces."""

TRACEPARENT: Final = "traceparent"
"""Header of W3C Trace Context (https://www.w3.org/TR/trace-context/), in requests and alerts."""

OFFSET: Final = "messaging.kafka.offset"
"""Of the first record, where there are several."""


class Span:
    """A span that nobody records."""

    def set(self, name: str, value: str | int) -> None:
        """Add an attribute."""

    def failed(self, error: BaseException) -> None:
        """Say what went wrong, by the error's type. What leaves the span by an exception has said so."""


class Traces:
    """Where spans begin; of this class none does. A span ends with its context, and lies in the one that is open."""

    def batch(self, topic: str, partition: int, first: int, records: int) -> AbstractContextManager[Span]:
        """So many records of a partition, from the offset `first` on, are scored."""
        return _NOTHING

    def step(self, name: str) -> AbstractContextManager[Span]:
        """A part of what is going on."""
        return _NOTHING

    def alert(self, topic: str, partition: int, alert: Alert, cause: Record | None) -> Sequence[tuple[str, bytes]]:
        """An alert is made. `cause` is the request that raised it, where it is at hand.

        Returns headers for the alert's record, by which its consumers' traces go on from here.
        """
        return ()

    def checkpoint(self, partitions: Iterable[int]) -> AbstractContextManager[Span]:
        """What was scored of these partitions is saved."""
        return _NOTHING

    def sending(self, topic: str, partition: int, records: Sequence[Outgoing]) -> AbstractContextManager[Span]:
        """Records are written to a partition, until the brokers hold them."""
        return _NOTHING

    def committing(self, topic: str) -> AbstractContextManager[Span]:
        """Offsets of a topic are committed."""
        return _NOTHING

    def recovered(self, topic: str, partitions: int, records: int, seconds: float) -> None:
        """So many records of so many partitions of the changelog were read back, and that took so long until now."""

    def recovery_failed(self, topic: str, error: BaseException) -> None:
        """Reading back was given up, and begins anew."""

    def close(self, seconds: float) -> None:
        """Send what is left, or give it up after so long."""


_NOTHING: Final = nullcontext(Span())

OFF: Final = Traces()


def start(settings: Settings) -> Traces:
    """Traces as the settings ask for, `OFF` without `otlp_endpoint`. Close what is returned.

    Raises `SettingsError` when OpenTelemetry is not installed, or does not take what its own variables say.
    """
    if not settings.otlp_endpoint:
        return OFF
    try:
        from streams.open_telemetry import OpenTelemetry  # here: it takes memory, and need not be installed
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("opentelemetry"):
            raise
        raise SettingsError(
            f"otlp_endpoint is set, and OpenTelemetry is not installed ({error.name}): "
            f"install {EXTRA}, or leave otlp_endpoint empty"
        ) from None
    try:
        return OpenTelemetry(settings)
    except ValueError as error:
        raise SettingsError(f"OpenTelemetry refuses what its variables (OTEL_…) say: {error}") from None
