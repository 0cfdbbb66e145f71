"""Request events: what a gateway tells about one request to the model, and the reading of it.

Everything here is untrusted input. The limits of the contract stand on the fields of `RequestEvent` (and so in the
published JSON Schema); those an operator may change are in `RequestLimits`. What breaks a limit is `Rejected` with a
reason and a detail that never quotes the record.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from msgspec import UNSET, Meta, Raw, UnsetType
from numpy.typing import NDArray

from schemas.dead_letter import DeadLetterReason

MAX_ACCOUNT_CHARACTERS: Final = 256
MAX_NAME_CHARACTERS: Final = 256
MAX_LINKS: Final = 32
MAX_EMBEDDING_DIMENSION: Final = 8192
MAX_COUNT: Final = 2**31 - 1

EARLIEST_TIME: Final = 1_420_070_400_000
"""2015-01-01 UTC in milliseconds: a time in seconds lies before it."""

LATEST_TIME: Final = 4_102_444_800_000
"""2100-01-01 UTC in milliseconds: a time in microseconds lies after it."""

UNKNOWN_TIME: Final = -1
"""The timestamp of a record that has none, as Kafka writes it."""

MAX_NESTING: Final = 100
"""What is nested deeper is read as null: nothing of ours is, and nobody may hide behind a deep tool description. Far
below the parser's own limit, which depends on how deep the caller's stack is, so that live and replay agree."""

FIRST_FAILED_STATUS: Final = 400

USER_ROLES: Final = frozenset({"user", "human"})
TEXT_PARTS: Final = frozenset({"text", "input_text"})
"""Types of the parts of a message that the user wrote; images, tool results and the rest are not."""

# Control characters would forge log lines and headers; U+FFFD is what broken characters are repaired to, so two
# different broken names would become one account. `$` alone would allow a final line feed.
_ACCOUNT_PATTERN: Final = r"^[^\x00-\x1f\x7f-\x9f\ufffd]*$(?!\n)"

# The bounds are checked in code, where they have a reason of their own.
Account = Annotated[str, Meta(min_length=1, max_length=MAX_ACCOUNT_CHARACTERS, pattern=_ACCOUNT_PATTERN)]
Time = Annotated[int, Meta(extra_json_schema={"minimum": EARLIEST_TIME, "exclusiveMaximum": LATEST_TIME})]
Name = Annotated[str, Meta(max_length=MAX_NAME_CHARACTERS)]
Count = Annotated[int, Meta(ge=0, le=MAX_COUNT)]


class Message(msgspec.Struct, frozen=True, gc=False):
    """A turn of a conversation in any of the usual shapes: ``content`` a text or parts, or parts in ``parts``."""

    role: Any = None
    content: Any = None
    parts: Any = None


class RequestEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One request to the model, as its gateway logged it. Unknown fields are ignored; a missing count is unknown.

    Attributes
    ----------
    time
        When the request was made, epoch milliseconds.
    account
        Whose behaviour is judged: an API key or a customer, the operator's choice. The record's key.
    id
        The request's own id. Need not be unique: (account, id, time) is what counts a request once.
    org, links
        What accounts share: an organisation, and hashed identifiers by kind (``payment``, ``ip``, ``device``, ...).
    end_user
        The account's own user, if it tells.
    declared
        What the operator has granted this request to be, whatever it looks like: ``evaluation``, ``batch``,
        ``labelling``, ``red-team``, ... Such requests are counted and not judged, so the gateway sets this from its own
        list of accounts and never from what the customer sends.
    model, endpoint, n, tools, stream, temperature, max_tokens
        As in the request.
    input_tokens, output_tokens
        Counts that the model reported.
    status
        HTTP status of the answer; 400 and above means that nothing was answered.
    embedding, embedding_model
        Base64 of little-endian float16 or float32, or a list of numbers; and the model that made it.
    prompt
        The text, or the list of messages, or a list of texts. Only the last user turn is embedded, then it is dropped.
    """

    time: Time
    account: Account
    id: Name | None = None
    org: Name | None = None
    end_user: Name | None = None
    declared: Name | None = None
    links: Annotated[dict[Name, Name], Meta(max_length=MAX_LINKS)] | None = None
    model: Name | None = None
    endpoint: Name | None = None
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    max_tokens: Count | None = None
    temperature: float | None = None
    n: Count | None = None
    tools: Raw | UnsetType = UNSET
    stream: bool | None = None
    status: Annotated[int, Meta(ge=0, le=999)] | None = None
    embedding: (
        Annotated[bytes, Meta(max_length=4 * MAX_EMBEDDING_DIMENSION)]
        | Annotated[list[float], Meta(max_length=MAX_EMBEDDING_DIMENSION)]
        | None
    ) = None
    embedding_model: Name | None = None
    prompt: str | list[str | int | Message | list[int]] | None = None

    @property
    def failed(self) -> bool:
        """Whether the request was refused or broke (status 4xx, 5xx): activity that covered nothing."""
        return self.status is not None and self.status >= FIRST_FAILED_STATUS


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Limits that an operator may change.

    Parameters
    ----------
    record_bytes
        Longest record that is parsed.
    clock_skew_ms
        How far an event's time may lie after its record's own timestamp.
    """

    record_bytes: int = 1 << 20
    clock_skew_ms: int = 24 * 3600 * 1000


class Rejected(Exception):  # noqa: N818 - names what happened to the record; it is no fault of the program
    """A record that cannot be scored. `detail` tells a person more and never quotes the record."""

    def __init__(self, reason: DeadLetterReason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


_DECODER: Final = msgspec.json.Decoder(RequestEvent)


def decode_request(value: bytes, limits: RequestLimits, record_time: int = UNKNOWN_TIME) -> RequestEvent:
    """Read one request event.

    Broken characters (lone surrogates, bytes that are no UTF-8) are replaced by U+FFFD, what is nested deeper than
    `MAX_NESTING` by null, and the event is read all the same: who can put one character into a prompt, or a strange
    description of a tool beside it, must not be able to hide behind it.

    Parameters
    ----------
    value
        The record's value.
    limits
        See `RequestLimits`.
    record_time
        The record's own timestamp, epoch milliseconds, `UNKNOWN_TIME` when it has none (then only the century counts).

    Raises
    ------
    Rejected
        The event breaks the contract.
    """
    if len(value) > limits.record_bytes:
        raise Rejected(DeadLetterReason.OVERSIZE, f"{len(value)} bytes, at most {limits.record_bytes} are read")
    if _brackets(value) > MAX_NESTING and nesting(value) > MAX_NESTING:
        value = prune(value)
    try:
        event = _DECODER.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        event = _decode_repaired(value, error)
    _check_clock(event.time, limits, record_time)
    return event


def _brackets(value: bytes) -> int:
    """Number of brackets that open; looked for from the end, since that is many times as fast as counting in base64."""
    return value.count(b"[", 0, value.rfind(b"[") + 1) + value.count(b"{", 0, value.rfind(b"{") + 1)


def _decode_repaired(value: bytes, error: Exception) -> RequestEvent:
    """Read what only needs repair, else raise `Rejected` for the first `error`."""
    if not isinstance(error, (msgspec.ValidationError, RecursionError)):
        repaired = repair_text(value)
        if repaired != value:
            try:
                return _DECODER.decode(repaired)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as second:
                error = second
    raise _rejected(error) from None


def is_account(text: str) -> bool:
    """Whether a text can be an account.

    Examples
    --------
    >>> is_account("acct-17"), is_account(""), is_account(chr(7))
    (True, False, False)
    """
    try:
        msgspec.convert(text, Account)
    except msgspec.ValidationError:
        return False
    return True


def _rejected(error: Exception) -> Rejected:
    """Translate a decoding error. The messages of msgspec name types, limits and paths, never values."""
    if isinstance(error, RecursionError):
        return Rejected(DeadLetterReason.TOO_DEEP, "nested too deeply")
    if isinstance(error, UnicodeDecodeError):
        return Rejected(DeadLetterReason.NOT_JSON, "not UTF-8")
    detail = str(error)
    if not isinstance(error, msgspec.ValidationError):
        return Rejected(DeadLetterReason.NOT_JSON, detail)
    if "`$.account`" in detail:
        return Rejected(DeadLetterReason.ACCOUNT, "empty, too long, or control or replacement characters in it")
    if detail.endswith("field `account`"):
        return Rejected(DeadLetterReason.ACCOUNT, "missing")
    if "`$.embedding`" in detail or "`$.embedding[" in detail:
        return Rejected(DeadLetterReason.EMBEDDING, detail)
    return Rejected(DeadLetterReason.SCHEMA, detail)


def _check_clock(time: int, limits: RequestLimits, record_time: int) -> None:
    if not EARLIEST_TIME <= time < LATEST_TIME:
        raise Rejected(DeadLetterReason.CLOCK, "outside 2015 to 2100; times are milliseconds")
    if record_time >= 0 and time - record_time > limits.clock_skew_ms:
        raise Rejected(DeadLetterReason.CLOCK, f"more than {limits.clock_skew_ms} ms after the record's own timestamp")


_ESCAPED_BACKSLASH: Final = rb"\\"
_PLACEHOLDER: Final = b"\0\0"
_STEPS: Final = np.zeros(256, np.int8)
"""By how much a byte outside strings changes the depth."""
_STEPS[[*b"[{"]] = 1
_STEPS[[*b"]}"]] = -1
_NULL: Final = np.frombuffer(b"null", np.uint8)


def _depths(value: bytes) -> NDArray[np.int32]:
    """How deep a JSON text is nested after each of its bytes; brackets inside strings do not count.

    By whole arrays: one bracket after the other took a second for a record of a megabyte of them.
    """
    # Same length as the text, with no quotes but those that open and close strings.
    masked = value.replace(_ESCAPED_BACKSLASH, _PLACEHOLDER).replace(rb"\"", _PLACEHOLDER)
    text = np.frombuffer(masked, np.uint8)
    inside_string = np.bitwise_xor.accumulate(text == ord('"'))
    return np.cumsum(np.where(inside_string, np.int8(0), _STEPS[text]), dtype=np.int32)


def nesting(value: bytes) -> int:
    r"""Return how deeply the arrays and objects of a JSON text are nested, brackets inside strings apart.

    Examples
    --------
    >>> nesting(rb'{"a": [1, "[[[\"", {}]}')
    3
    """
    return max(int(_depths(value).max(initial=0)), 0)


def prune(value: bytes, limit: int = MAX_NESTING) -> bytes:
    r"""Replace what is nested deeper than `limit` in a JSON text by null; linear in the length.

    Examples
    --------
    >>> prune(rb'{"a": [[1], "]["], "b": {}}', 2)
    b'{"a": [null, "]["], "b": {}}'
    """
    deep = _depths(value) > limit
    before = np.concatenate([[False], deep[:-1]])
    begins = deep & ~before
    # Of what is cut, the first byte makes room for null; the bracket that ends it goes as well.
    copies = np.where(begins, np.uint8(len(_NULL)), np.uint8(1) - (deep | before))
    kept = np.repeat(np.frombuffer(value, np.uint8), copies)
    places = np.cumsum(copies, dtype=np.int64)[begins] - len(_NULL)
    kept[places[:, None] + np.arange(len(_NULL))] = _NULL
    return kept.tobytes()


_HIGH: Final = rb"\\u[dD][89abAB][0-9a-fA-F]{2}"
_LOW: Final = rb"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_LONE_SURROGATE: Final = re.compile(rb"%s(?!%s)|(?<!%s)%s" % (_HIGH, _LOW, _HIGH, _LOW))


def repair_text(value: bytes) -> bytes:
    r"""Replace lone surrogates and invalid UTF-8 in JSON text by U+FFFD; linear in the length.

    Works on the text rather than on the parsed value, so that the one decoder with all its limits reads the result.
    Escaped backslashes are set aside meanwhile, since in ``\\ud83d`` nothing is escaped but the backslash. A raw NUL
    is never valid JSON, so it can mark their places, and text that has one is returned as it is.

    Examples
    --------
    >>> repair_text(rb'{"a": "\ud83d \ud83d\ude00 \\ud83d"}')
    b'{"a": "\\ufffd \\ud83d\\ude00 \\\\ud83d"}'
    >>> repair_text(b'"\xff"').decode()
    '"\ufffd"'
    """
    if b"\0" in value:
        return value
    value = value.decode("utf-8", "replace").encode()
    set_aside = value.replace(_ESCAPED_BACKSLASH, _PLACEHOLDER)
    return _LONE_SURROGATE.sub(rb"\\ufffd", set_aside).replace(_PLACEHOLDER, _ESCAPED_BACKSLASH)


def user_text(event: RequestEvent) -> str | None:
    """Return the text that the user wrote last, None when the event brings none.

    * A text is taken whole; several texts (one request, many prompts) are joined by line feeds into one.
    * Of messages, the last user turn that has text: system prompts, answers, tool results and earlier turns would fake
      repetition. A turn that only brings tool results is passed over, or appending one would hide the text.
    * Of parts, those of type text.
    * White space alone is no text.

    Raises
    ------
    Rejected
        The prompt is a list of token ids.
    """
    prompt = event.prompt
    if prompt is None:
        return None
    if isinstance(prompt, str):
        return _something(prompt)
    if any(isinstance(item, (int, list)) for item in prompt):
        raise Rejected(DeadLetterReason.TOKEN_IDS, "the prompt is token ids; send text or an embedding")
    if all(isinstance(item, str) for item in prompt):
        return _something("\n".join(item for item in prompt if isinstance(item, str)))
    return _last_user_turn(prompt)


def _last_user_turn(prompt: list[str | int | Message | list[int]]) -> str | None:
    for item in reversed(prompt):
        if isinstance(item, str):
            text = _something(item)
        elif isinstance(item, Message) and (item.content or item.parts) and _is_user(item.role):
            text = _something("\n".join(_texts(item)))
        else:
            continue
        if text is not None:
            return text
    return None


def _is_user(role: object) -> bool:
    return role is None or (isinstance(role, str) and role in USER_ROLES)


def _something(text: str) -> str | None:
    return None if not text or text.isspace() else text


def _texts(message: Message) -> Iterator[str]:
    """The user's own texts in a message, whichever of the usual shapes it has."""
    for content in (message.content, message.parts):
        if isinstance(content, str):
            yield content
        elif isinstance(content, dict):
            yield from _part_texts([content])
        elif isinstance(content, list):
            yield from _part_texts(content)


def _part_texts(parts: Iterable[Any]) -> Iterator[str]:
    for part in parts:
        if isinstance(part, str):
            yield part
        elif isinstance(part, dict):
            kind = part.get("type", "text")
            text = part.get("text", part.get("content"))
            if isinstance(kind, str) and kind in TEXT_PARTS and isinstance(text, str):
                yield text
