"""A batch of raw records as one Faust event, and the topic that hands it through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from faust.topics import Topic
from faust.types import TP

Epoch = tuple[int, int]
"""When a batch was fetched, in seeks and hand-overs, of all and of its partition; a batch of another epoch is void."""


class Batch:
    """What one fetch brought of one partition, in the order of the log.

    Attributes
    ----------
    tp
        Topic and partition.
    records
        aiokafka's `ConsumerRecord`s, at least one.
    epoch
        Epoch of the fetch.
    """

    __slots__ = ("epoch", "records", "tp")

    def __init__(self, tp: TP, records: Sequence[Any], epoch: Epoch) -> None:
        self.tp = tp
        self.records = records
        self.epoch = epoch

    @property
    def first(self) -> int:
        """Offset of the first record."""
        return int(self.records[0].offset)

    @property
    def last(self) -> int:
        """Offset of the last record."""
        return int(self.records[-1].offset)


class BatchTopic(Topic):
    """A topic whose events may be batches."""

    def _compile_decode(self) -> None:
        """Why overridden: it assigns `self.decode`, so a plain `decode` method would never be called."""
        super()._compile_decode()
        decode_record = self.decode

        async def decode(message: Any, *, propagate: bool = False) -> Any:
            if type(message.value) is Batch:
                return self._create_event(None, message.value, message.headers, message=message)
            return await decode_record(message, propagate=propagate)

        self.decode = decode  # type: ignore[method-assign]

    async def maybe_declare(self) -> None:
        """Why overridden: topics are made beforehand, and Faust warns of each one that it may not make."""
