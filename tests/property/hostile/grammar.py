"""A grammar of hostile records: each with what the documentation says becomes of it.

Content that must never leave carries `PROMPT_MARK`, and accounts `ACCOUNT_MARK`, so that whatever comes out of the
service can be searched for them. The same seed gives the same records.
"""

from __future__ import annotations

import base64
import gzip
import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from schemas.origin import ORIGIN_OFFSET_HEADER, ORIGIN_PARTITION_HEADER, ORIGIN_TOPIC_HEADER

PROMPT_MARK: Final = "xyzzysesame"
ACCOUNT_MARK: Final = "accplugh"

SCORED: Final = "scored"
DUPLICATE: Final = "duplicate"
SENT_BACK: Final = "sent back"
"""Under its account's key; the record that comes back is scored."""

_WITH_ID: Final = re.compile(rb'"id": "(?!None|")')

ANY: Final = "any"
"""A random damage may leave a record that is still fine: all that is promised is that one thing comes of it."""

DIMENSION: Final = 256
MINUTE_MS: Final = 60_000

Headers = Sequence[tuple[str, bytes | None]]


class Hostile(NamedTuple):
    """A record to send.

    `astray`: to a partition that is not its key's. `outcome`: `SCORED`, `DUPLICATE`, `SENT_BACK`, `ANY`, or the reason
    of its dead letter.
    """

    kind: str
    outcome: str
    value: bytes | None
    key: bytes | None
    headers: Headers = ()
    astray: bool = False


class BrokenName(str):
    """A header's name that is written as bytes that are no UTF-8, as a client in C can."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        """Latin-1, whatever is asked for."""
        return str.encode(self, "latin-1")


class Maker:
    """Makes the parts of records; counts what it made, so that no two are alike.

    Parameters
    ----------
    rng
        Chance.
    now
        Time of the first request, epoch milliseconds; each request is a millisecond later.
    accounts
        How many ordinary accounts send hostile records.
    """

    def __init__(self, rng: random.Random, now: int, accounts: int = 40) -> None:
        self.rng = rng
        self._now = now
        self._accounts = accounts
        self._made = 0

    def time(self) -> int:
        """A time of its own."""
        self._made += 1
        return self._now + self._made

    def account(self) -> str:
        """One of the ordinary accounts."""
        return f"{ACCOUNT_MARK}-{self.rng.randrange(self._accounts)}"

    def text(self, words: int = 8) -> str:
        """A prompt of its own."""
        self._made += 1
        rest = " ".join(self.rng.choice(_WORDS) for _ in range(words))
        return f"{PROMPT_MARK} {self._made} {rest}"

    def event(self, **fields: Any) -> dict[str, Any]:
        """A good request event with a prompt; a field that is `...` is left out."""
        usual = {"time": self.time(), "account": self.account(), "prompt": self.text()}
        return {name: value for name, value in (usual | fields).items() if value is not ...}

    def vector(self, dimension: int = DIMENSION) -> list[float]:
        """Some embedding."""
        return [self.rng.gauss(0.0, 1.0) for _ in range(dimension)]

    def of(self, kind: str, outcome: str, event: dict[str, Any], **more: Any) -> Hostile:
        """A record of an event, under its account's key."""
        return self.raw(kind, outcome, json.dumps(event).encode(), event.get("account"), **more)

    def raw(self, kind: str, outcome: str, value: bytes | None, account: Any = ..., **more: Any) -> Hostile:
        """A record of any bytes, under the key of an account."""
        account = self.account() if account is ... else account
        key = account.encode(errors="replace") if isinstance(account, str) else b"?"
        return Hostile(kind, outcome, value, **({"key": key} | more))


_WORDS: Final = [
    "the",
    "a",
    "of",
    "to",
    "and",
    "in",
    "that",
    "it",
    "with",
    "as",
    "for",
    "was",
    "on",
    "are",
    "by",
    "be",
    "this",
    "from",
    "or",
    "have",
    "an",
    "they",
    "which",
    "one",
    "you",
    "were",
    "all",
    "her",
    "she",
    "tax",
    "law",
    "river",
    "church",
    "railway",
    "anthem",
    "theorem",
    "proof",
    "enzyme",
    "glacier",
    "sonata",
    "compiler",
    "verb",
    "orbit",
]

Kind = Callable[[Maker], Hostile]
_KINDS: list[tuple[int, Kind]] = []
"""Kinds of records with their weights."""


def _kind(weight: int) -> Callable[[Kind], Kind]:
    def register(kind: Kind) -> Kind:
        _KINDS.append((weight, kind))
        return kind

    return register


def records(seed: int, count: int, now: int, *, with_large: bool = True) -> Iterator[Hostile]:
    """`count` hostile records, each kind among them when there are enough, and then some that were logged twice.

    `with_large`: also records of megabytes.
    """
    rng = random.Random(seed)
    maker = Maker(rng, now)
    kinds = [(weight, kind) for weight, kind in _KINDS if with_large or kind not in _LARGE]
    deck = [kind for _, kind in kinds]
    deck += rng.choices(deck, [weight for weight, _ in kinds], k=max(0, count - len(deck)))
    rng.shuffle(deck)
    for kind in deck[:count]:
        made = kind(maker)
        yield made
        # Logged twice, byte for byte. Without an id of its own it is another request.
        identified = _WITH_ID.search(made.value or b"") is not None
        if made.outcome == SCORED and rng.random() < (0.5 if identified else 0.02):
            yield made._replace(kind="again " + made.kind, outcome=DUPLICATE if identified else SCORED)


# ------------------------------------------------------------------------------------------------- not JSON


@_kind(3)
def _random_bytes(make: Maker) -> Hostile:
    return make.raw("random bytes", "not_json", b"\x00" + make.rng.randbytes(make.rng.randrange(1, 400)))


@_kind(3)
def _no_json(make: Maker) -> Hostile:
    written = json.dumps(make.event()).encode()
    broken = make.rng.choice(
        [
            written[: make.rng.randrange(1, len(written))],
            written.replace(b'"', b"'"),
            written + b"}",
            written + b"\n" + written,
            b"\xef\xbb\xbf" + written,
            written.decode().encode("utf-16"),
            gzip.compress(written, mtime=0),
            b"POST /v1/chat " + written,
            b"<event>" + make.text().encode() + b"</event>",
            b"\x0a\x1f\x0a\x1d" + make.text().encode(),  # Protobuf
            written.replace(b"{", b"{\x00", 1),
            written.replace(b'"prompt": "', b'"prompt": "\n'),
            written.replace(b'"prompt": "', b'"prompt": "\\x'),
        ]
    )
    return make.raw("not JSON", "not_json", broken)


@_kind(2)
def _no_number(make: Maker) -> Hostile:
    field = make.rng.choice(["temperature", "input_tokens", "time"])
    number = make.rng.choice([float("nan"), float("inf"), float("-inf")])
    return make.of("NaN or infinity as a number", "not_json", make.event(**{field: number}))


@_kind(2)
def _no_numbers(make: Maker) -> Hostile:
    vector: list[float] = make.vector()
    vector[make.rng.randrange(DIMENSION)] = make.rng.choice([float("nan"), float("inf"), float("-inf")])
    return make.of("NaN or infinity in a list", "not_json", make.event(embedding=vector))


# ------------------------------------------------------------------------------------------------- wrong types


@_kind(3)
def _no_object(make: Maker) -> Hostile:
    value = make.rng.choice([5, None, True, "text " + make.text(), [], [make.event()], [make.text()], 1e300, -0.0])
    return make.raw("no object", "schema", json.dumps(value).encode())


_WRONG: Final[dict[str, tuple[Any, ...]]] = {
    "time": ("2026-01-05T07:02:00Z", "1767571200000", None, True, [1], {}, 1767571200000.5),
    "id": (7, True, [PROMPT_MARK], {"id": PROMPT_MARK}, PROMPT_MARK * 100),
    "org": (7, [], {}, PROMPT_MARK * 100),
    "end_user": (7, False, [PROMPT_MARK], PROMPT_MARK * 100),
    "links": ([], PROMPT_MARK, {"ip": 7}, {"ip": None}, {PROMPT_MARK: [PROMPT_MARK]}, {PROMPT_MARK * 100: "x"}),
    "model": (7, {}, PROMPT_MARK * 100),
    "endpoint": (7, {}, PROMPT_MARK * 100),
    "input_tokens": ("12", 1.5, -1, 2**31, 10**12, True, [], PROMPT_MARK),
    "output_tokens": ("12", 1.5, -1, 2**31, 10**400, True, {}, PROMPT_MARK),
    "max_tokens": ("12", -1, 2**31),
    "temperature": ("hot", [], True, PROMPT_MARK),
    "n": ("1", -1, 0.5),
    "stream": (1, "true", PROMPT_MARK),
    "status": ("200", 1000, -1, 1e10, PROMPT_MARK),
    "embedding_model": (7, [], PROMPT_MARK * 100),
    "prompt": (7, True, {"text": PROMPT_MARK}, [None], [True], [1.5], [[PROMPT_MARK]]),
}


@_kind(12)
def _wrong_type(make: Maker) -> Hostile:
    field = make.rng.choice(list(_WRONG))
    return make.of(f"wrong type of {field}", "schema", make.event(**{field: make.rng.choice(_WRONG[field])}))


@_kind(2)
def _too_many_links(make: Maker) -> Hostile:
    links = {f"kind-{i}": PROMPT_MARK for i in range(33)}
    return make.of("too many links", "schema", make.event(links=links))


@_kind(2)
def _no_time(make: Maker) -> Hostile:
    return make.of("no time", "schema", make.event(time=...))


# ------------------------------------------------------------------------------------------------- embeddings


def _packed(vector: Any, dtype: str) -> str:
    with np.errstate(over="ignore"):
        return base64.b64encode(np.asarray(vector, dtype).tobytes()).decode()


@_kind(6)
def _embedding(make: Maker) -> Hostile:
    packed = make.rng.choice([_packed(make.vector(), "<f2"), _packed(make.vector(), "<f4"), make.vector()])
    return make.of("embedding", SCORED, make.event(embedding=packed, prompt=...))


@_kind(3)
def _embedding_not_finite(make: Maker) -> Hostile:
    vector = make.vector()
    vector[make.rng.randrange(DIMENSION)] = make.rng.choice([float("nan"), float("inf"), float("-inf")])
    packed = _packed(vector, make.rng.choice(["<f2", "<f4"]))
    return make.of("NaN or infinity packed", "embedding", make.event(embedding=packed, prompt=...))


@_kind(2)
def _embedding_too_large(make: Maker) -> Hostile:
    vector = make.vector()
    vector[0] = make.rng.choice([1e39, -1e308])
    return make.of("number beyond float32", "embedding", make.event(embedding=vector))


@_kind(2)
def _embedding_of_zeros(make: Maker) -> Hostile:
    vector = [make.rng.choice([0.0, -0.0, 1e-30, 5e-324]) for _ in range(DIMENSION)]
    return make.of("embedding that points nowhere", SCORED, make.event(embedding=vector))


@_kind(3)
def _wrong_dimension(make: Maker) -> Hostile:
    size = make.rng.choice([0, 1, 2, 255, 257, 512, 768, 1536, 4096])
    vector = make.vector(size)
    packed = make.rng.choice([vector, _packed(vector, "<f2"), base64.b64encode(b"\x01" * (2 * size + 1)).decode()])
    if size == 512 and isinstance(packed, str):
        packed = vector  # 512 half floats are as long as 256 floats
    return make.of("wrong dimension", "dimension", make.event(embedding=packed))


@_kind(2)
def _embedding_too_long(make: Maker) -> Hostile:
    return make.of(
        "embedding too long", "embedding", make.event(embedding=make.rng.choice([[0.5] * 8193, "AAAA" * 10923]))
    )


@_kind(4)
def _broken_base64(make: Maker) -> Hostile:
    good = _packed(make.vector(), "<f2")
    broken = make.rng.choice(
        [
            good[:-1] + "!",
            good[:-3],
            "=" + good,
            good[:50] + "\n" + good[50:],
            "data:;base64," + good,
            PROMPT_MARK,
            "-_-_",
        ]
    )
    return make.of("broken base64", "embedding", make.event(embedding=broken))


@_kind(2)
def _no_embedding(make: Maker) -> Hostile:
    wrong = make.rng.choice([7, True, {"data": PROMPT_MARK}, [[0.5]], ["0.5"], [None], [PROMPT_MARK]])
    return make.of("wrong type of embedding", "embedding", make.event(embedding=wrong))


@_kind(2)
def _foreign_model(make: Maker) -> Hostile:
    event = make.event(embedding=make.vector(), embedding_model=PROMPT_MARK)
    return make.of("another embedding model", "embedding_model", event)


# ------------------------------------------------------------------------------------------------- size and depth


_LARGE_PROMPT: Final = json.dumps(PROMPT_MARK * (10_000_000 // len(PROMPT_MARK))).encode()


@_kind(0)
def _ten_megabytes(make: Maker) -> Hostile:
    value = b'{"time": %d, "account": "%s", "prompt": ' % (make.time(), make.account().encode()) + _LARGE_PROMPT + b"}"
    return make.raw("10 MB", "oversize", value)


@_kind(0)
def _megabyte_of_brackets(make: Maker) -> Hostile:
    event = json.dumps(make.event()).encode()
    half = 450_000
    junk = make.rng.choice(
        [b"[" * half + b"]" * half, b'{"a":' * 100_000 + b"1" + b"}" * 100_000, b"[" + b"[]," * 300_000 + b"[]]"]
    )
    return make.raw("megabyte of brackets", SCORED, event[:-1] + b', "x": ' + junk + b"}", json.loads(event)["account"])


@_kind(0)
def _megabyte_of_messages(make: Maker) -> Hostile:
    message = make.rng.choice([{}, {"role": "assistant"}, {"role": "user", "content": ""}, {"content": [{}]}])
    event = make.event(prompt=[{"content": make.text()}] + [message] * 25_000)
    return make.of("megabyte of messages", SCORED, event)


@_kind(0)
def _megabyte_of_surrogates(make: Maker) -> Hostile:
    event = json.dumps(make.event()).encode()
    return make.raw(
        "megabyte of lone surrogates",
        SCORED,
        event[:-2] + b"\\ud83d" * 160_000 + b'"}',
        json.loads(event)["account"],
    )


_LARGE: Final = (_ten_megabytes, _megabyte_of_brackets, _megabyte_of_messages, _megabyte_of_surrogates)


@_kind(3)
def _deep(make: Maker) -> Hostile:
    event = json.dumps(make.event()).encode()
    depth = make.rng.choice([101, 1_000, 20_000])
    opening, closing = make.rng.choice([(b"[", b"]"), (b'{"a":', b"}")])
    inner = opening * depth + b"1" + closing * depth
    name = make.rng.choice([b"x", b"tools", PROMPT_MARK.encode()])
    return make.raw(
        "deep nesting", SCORED, event[:-1] + b', "%s": ' % name + inner + b"}", json.loads(event)["account"]
    )


@_kind(2)
def _deep_and_open(make: Maker) -> Hostile:
    event = json.dumps(make.event()).encode()
    return make.raw(
        "deep nesting without an end", "not_json", event[:-1] + b', "x": ' + b"[" * make.rng.choice([500, 50_000])
    )


@_kind(2)
def _deep_prompt(make: Maker) -> Hostile:
    event = json.dumps(make.event(prompt=...)).encode()
    content = b"[" * 3_000 + json.dumps(make.text()).encode() + b"]" * 3_000
    value = event[:-1] + b', "prompt": [{"role": "user", "content": ' + content + b"}]}"
    return make.raw("deep prompt", SCORED, value, json.loads(event)["account"])


@_kind(3)
def _duplicate_keys(make: Maker) -> Hostile:
    event = make.event()
    name = make.rng.choice(["prompt", "id", "status", "account"])
    first = {"prompt": make.text(), "id": "first", "status": 200, "account": "somebody else"}[name]
    written = json.dumps(event)
    return make.raw(
        "repeated field", SCORED, f'{{"{name}": {json.dumps(first)}, {written[1:]}'.encode(), event["account"]
    )


@_kind(2)
def _wide(make: Maker) -> Hostile:
    event = make.event() | {f"{PROMPT_MARK}-{i}": make.text(2) for i in range(make.rng.choice([100, 2_000]))}
    return make.of("thousands of unknown fields", SCORED, event)


# ------------------------------------------------------------------------------------------------- time


@_kind(4)
def _clock(make: Maker) -> Hostile:
    time = make.time()
    wrong = make.rng.choice(
        [
            0,
            1,
            -1,
            86_400_000,
            time // 1000,
            time * 1000,
            3_786_912_000_000,
            time + 25 * 3_600_000,
            2**62,
            -(2**70),
            10**400,
        ]
    )
    return make.of("time in 1970, 2090 or another unit", "clock", make.event(time=wrong))


@_kind(3)
def _late(make: Maker) -> Hostile:
    time = make.time() - make.rng.randrange(1, 3_000) * MINUTE_MS
    return make.of("late", SCORED, make.event(time=time))


# ------------------------------------------------------------------------------------------------- account


@_kind(6)
def _no_account(make: Maker) -> Hostile:
    wrong = make.rng.choice(
        [
            ...,
            None,
            7,
            "",
            [ACCOUNT_MARK],
            {"name": ACCOUNT_MARK},
            ACCOUNT_MARK * 1_250,
            ACCOUNT_MARK + "\x00",
            "\x00",
            ACCOUNT_MARK + "\n",
            "\x1b[2J" + ACCOUNT_MARK,
            ACCOUNT_MARK + "\x85",
            ACCOUNT_MARK + "\ufffd",
            ACCOUNT_MARK + "\ud83d",
        ]
    )
    event = make.event(account=wrong)
    return make.raw("no usable account", "account", json.dumps(event).encode(), ACCOUNT_MARK)


@_kind(4)
def _odd_account(make: Maker) -> Hostile:
    odd = make.rng.choice(
        [
            "\u202e" + ACCOUNT_MARK,
            ACCOUNT_MARK + "\u2066\u2069",
            f"../../{ACCOUNT_MARK}/../etc/passwd",
            f"C:\\{ACCOUNT_MARK}",
            f"{ACCOUNT_MARK}%s%n{{0}}",
            f"'; DROP TABLE {ACCOUNT_MARK}; --",
            f"<script>{ACCOUNT_MARK}</script>",
            f"{ACCOUNT_MARK}@example.org",
            ACCOUNT_MARK * 32,
            "😀" * 240 + ACCOUNT_MARK,
            f" {ACCOUNT_MARK} ",
            f"__proto__{ACCOUNT_MARK}",
        ]
    )
    return make.of("odd account", SCORED, make.event(account=odd))


@_kind(2)
def _account_of_broken_bytes(make: Maker) -> Hostile:
    event = json.dumps(make.event(account=ACCOUNT_MARK)).encode()
    broken = event.replace(
        ACCOUNT_MARK.encode(), ACCOUNT_MARK.encode() + make.rng.choice([b"\xff", b"\xc3", b"\xed\xa0\x80"])
    )
    return make.raw("account that is no UTF-8", "account", broken)


# ------------------------------------------------------------------------------------------------- identity, keys


@_kind(4)
def _own_id(make: Maker) -> Hostile:
    time = make.time()
    return make.of("own id", SCORED, make.event(time=time, id=f"own-{time}"))


@_kind(3)
def _shared_id(make: Maker) -> Hostile:
    return make.of("id that all requests share", SCORED, make.event(id=make.rng.choice(["None", "", "0", "req-1"])))


@_kind(3)
def _tombstone(make: Maker) -> Hostile:
    return make.raw("tombstone", "empty", make.rng.choice([None, b""]), key=make.rng.choice([None, b"", b"acct"]))


@_kind(4)
def _wrong_key(make: Maker) -> Hostile:
    keys = [None, b"", b"\xff\xfe", b"somebody else", ACCOUNT_MARK.encode() * 1_250, b"\x00"]
    return make.of("key that is not the account", SENT_BACK, make.event(), key=make.rng.choice(keys))


@_kind(3)
def _astray(make: Maker) -> Hostile:
    return make.of("wrong partition", SENT_BACK, make.event(), astray=True)


@_kind(2)
def _bad_and_astray(make: Maker) -> Hostile:
    event = make.event(embedding=[0.5], prompt=...)
    return make.of("wrong dimension under a wrong key", SENT_BACK, event, key=b"somebody else")


# ------------------------------------------------------------------------------------------------- headers


@_kind(3)
def _header_values(make: Maker) -> Hostile:
    values: list[bytes | None] = [b"\xff\xfe\x00", None, b"", make.rng.randbytes(20), b"x" * 2_000]
    headers = [(make.rng.choice(["traceparent", "", "\u202e", "ce_id", "x"]), value) for value in values]
    return make.of("headers that are no text", SCORED, make.event(), headers=headers)


@_kind(2)
def _header_names(make: Maker) -> Hostile:
    return make.of("header names that are no UTF-8", SCORED, make.event(), headers=[(BrokenName("na\xefve\xff"), b"v")])


@_kind(2)
def _header_names_of_dead(make: Maker) -> Hostile:
    headers = [(BrokenName("\xff\xfe"), b"\xff"), ("stillwatch-reason", b"forged")]
    return make.raw(
        "header names that are no UTF-8, on no JSON", "not_json", b"{" + make.text().encode(), headers=headers
    )


@_kind(3)
def _forged_origin(make: Maker) -> Hostile:
    wrong: list[bytes | None] = [b"-1", b"\xff", None, b"9" * 30, b"1_0", "\u0661".encode(), b"", b" 1"]
    headers: Headers = [
        (ORIGIN_TOPIC_HEADER, make.rng.choice([b"requests", b"\xff", None])),
        (ORIGIN_PARTITION_HEADER, make.rng.choice(wrong)),
        (ORIGIN_OFFSET_HEADER, make.rng.choice(wrong)),
    ]
    return make.of("forged origin", SCORED, make.event(), headers=headers)


@_kind(2)
def _many_headers(make: Maker) -> Hostile:
    headers = [(f"h{i}", b"v" * 10) for i in range(1_000)]
    return make.of("a thousand headers", SCORED, make.event(), headers=headers)


# ------------------------------------------------------------------------------------------------- content


@_kind(4)
def _image(make: Maker) -> Hostile:
    image = {
        "type": "image_url",
        "image_url": {"url": "data:image/png;base64," + "iVBORw0K" * make.rng.choice([5, 20_000])},
    }
    parts = [image, {"type": "text", "text": make.text()}, image]
    return make.of("image beside text", SCORED, make.event(prompt=[{"role": "user", "content": parts}]))


@_kind(2)
def _nothing_said(make: Maker) -> Hostile:
    nothing: Any = make.rng.choice(
        [
            "",
            " \n\t",
            [],
            [""],
            [{}],
            [{"role": 7, "content": PROMPT_MARK}],
            [{"role": "user", "content": {"type": {"text": 1}, "text": PROMPT_MARK}}],
            [{"role": "user", "content": [{"type": "image", "text": PROMPT_MARK}, 7, None, [PROMPT_MARK]]}],
            [{"role": "user", "content": None, "parts": 7}],
            None,
        ]
    )
    return make.of("no text", SCORED, make.event(prompt=nothing))


@_kind(3)
def _token_ids(make: Maker) -> Hostile:
    ids = make.rng.choice([[1, 2, 3], [[1, 2], [3]], ["text", 7], [2**60]])
    return make.of("token ids", "token_ids", make.event(prompt=ids))


@_kind(2)
def _token_ids_beside_embedding(make: Maker) -> Hostile:
    return make.of("token ids beside an embedding", SCORED, make.event(prompt=[1, 2, 3], embedding=make.vector()))


@_kind(3)
def _broken_characters(make: Maker) -> Hostile:
    event = json.dumps(make.event()).encode()
    broken = make.rng.choice([b"\\ud83d", b"\\udc00\\ud800", b"\xff", b"\xed\xa0\xbd", b"\xc3", b"\\\\ud83d\\ud83d"])
    value = event.replace(PROMPT_MARK.encode(), PROMPT_MARK.encode() + broken, 1)
    return make.raw("broken characters in the prompt", SCORED, value, json.loads(event)["account"])


@_kind(3)
def _odd_text(make: Maker) -> Hostile:
    odd = make.rng.choice(
        ["\u202e", "\x00", "▁" * 50, "<s></s><unk>", "\u0301" * 100, "👩‍👩‍👧‍👦", "\ufeff", "a" * 30_000, "\n" * 5_000]
    )
    return make.of("odd text", SCORED, make.event(prompt=make.text() + odd))


@_kind(3)
def _inner_events(make: Maker) -> Hostile:
    span = {
        "name": "chat",
        "startTimeUnixNano": "1767571200000000000",
        "attributes": [{"key": "gen_ai.input.messages"}],
    }
    spans = [span | {"spanId": str(i), "text": make.text(2)} for i in range(300)]
    array = [make.event() for _ in range(300)]
    inner = make.rng.choice(
        [{"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}, array, {"time": make.time(), "events": array}]
    )
    value = json.dumps(inner).encode()
    return make.raw("300 inner events", "account" if value.startswith(b'{"time"') else "schema", value)


@_kind(2)
def _inner_prompts(make: Maker) -> Hostile:
    return make.of("300 prompts in one request", SCORED, make.event(prompt=[make.text() for _ in range(300)]))


@_kind(4)
def _extremes(make: Maker) -> Hostile:
    event = make.event(
        input_tokens=make.rng.choice([0, 2**31 - 1]),
        output_tokens=make.rng.choice([0, 2**31 - 1]),
        status=make.rng.choice([0, 200, 429, 500, 999]),
        temperature=make.rng.choice([-1e308, 5e-324, 10**30]),
        end_user=make.text(3),
        endpoint=make.text(2),
        links={f"kind-{i}": make.text(2) for i in range(32)},
        tools=make.rng.choice([None, [], "x", [{"description": make.text()}]]),
    )
    return make.of("numbers at their limits", SCORED, event)


# ------------------------------------------------------------------------------------------------- damage


@_kind(25)
def _damaged(make: Maker) -> Hostile:
    event = make.event(id=f"damaged-{make.time()}", output_tokens=300, status=200)
    value = bytearray(json.dumps(event).encode())
    for _ in range(make.rng.randrange(1, 5)):
        at = make.rng.randrange(len(value))
        value[at : at + make.rng.randrange(4)] = make.rng.choice(
            [b"", b"\x00", b"\xff", b'"', b"\\", b"{", b"]", b",", b"1e999", b"-", b"\\u0000", make.rng.randbytes(3)]
        )
    return make.raw("damaged", ANY, bytes(value), event["account"])


@_kind(10)
def _good(make: Maker) -> Hostile:
    return make.of("good", SCORED, make.event(output_tokens=make.rng.randrange(2_000), end_user=make.text(1)))
