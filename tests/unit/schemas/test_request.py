"""Reading request events: what is accepted, what is repaired, what is refused and why."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import orjson
import pytest

from schemas.dead_letter import DeadLetterReason as Reason
from schemas.request import (
    LATEST_TIME,
    MAX_ACCOUNT_CHARACTERS,
    MAX_NESTING,
    Rejected,
    RequestEvent,
    RequestLimits,
    decode_request,
    repair_text,
    user_text,
)

NOW = 1_790_812_856_423
HOUR = 3_600_000
LIMITS = RequestLimits()
CONTENT = "the launch code is 7316"


def raw(**fields: Any) -> bytes:
    return orjson.dumps({"time": NOW, "account": "acct_7"} | fields)


def decode(value: bytes, record_time: int = -1) -> RequestEvent:
    return decode_request(value, LIMITS, record_time)


def refusal(value: bytes, record_time: int = -1, limits: RequestLimits = LIMITS) -> Rejected:
    with pytest.raises(Rejected) as caught:
        decode_request(value, limits, record_time)
    assert "7316" not in caught.value.detail
    return caught.value


def text_of(prompt: Any) -> str | None:
    return user_text(decode(raw(prompt=prompt)))


def test_missing_and_null_counts_are_unknown_not_zero() -> None:
    event = decode(raw(total_tokens=120, input_tokens=None))
    assert event.input_tokens is None
    assert event.output_tokens is None
    assert decode(raw(output_tokens=0)).output_tokens == 0


def test_unknown_fields_are_ignored() -> None:
    assert decode(raw(new_field={"deep": [1, 2]}, tools=[{"name": "search"}])).account == "acct_7"


def test_embeddings_come_as_base64_or_as_a_list() -> None:
    assert decode(raw(embedding=base64.b64encode(b"\x00\x3c").decode())).embedding == b"\x00\x3c"
    assert decode(raw(embedding=[1, -0.5])).embedding == [1.0, -0.5]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", Reason.NOT_JSON),
        (b"{", Reason.NOT_JSON),
        (b'{"time":NaN,"account":"a"}', Reason.NOT_JSON),
        (raw() + b" 7316", Reason.NOT_JSON),
        (raw()[:-1] + b',"prompt":"\\ud83d \0"}', Reason.NOT_JSON),
        (raw()[:-1] + b',"prompt":"\xff","x":"\0"}', Reason.NOT_JSON),
        (b"null", Reason.SCHEMA),
        (b"[7316]", Reason.SCHEMA),
        (b'{"account":"a"}', Reason.SCHEMA),
        (raw(time="2026-10-01T00:00:56Z"), Reason.SCHEMA),
        (raw(time=1.5e12), Reason.SCHEMA),
        (raw(time=True), Reason.SCHEMA),
        (raw(output_tokens=-1), Reason.SCHEMA),
        (raw(output_tokens=2**31), Reason.SCHEMA),
        (raw(output_tokens="7316"), Reason.SCHEMA),
        (raw(id="7316" * 65), Reason.SCHEMA),
        (raw(links={str(i): CONTENT for i in range(33)}), Reason.SCHEMA),
        (raw(links={CONTENT: 5}), Reason.SCHEMA),
        (raw(prompt={"text": CONTENT}), Reason.SCHEMA),
        (raw()[:-1] + b',"temperature":1e999}', Reason.SCHEMA),
        (b'{"time":1790812856423}', Reason.ACCOUNT),
        (raw(account=""), Reason.ACCOUNT),
        (raw(account=None), Reason.ACCOUNT),
        (raw(account=7316), Reason.ACCOUNT),
        (raw(account="a" * (MAX_ACCOUNT_CHARACTERS + 1)), Reason.ACCOUNT),
        (raw(account="a\0b"), Reason.ACCOUNT),
        (raw(account="a\n"), Reason.ACCOUNT),
        (raw(account="a\x1b[31m"), Reason.ACCOUNT),
        (b'{"time":1790812856423,"account":"a\\ud83d"}', Reason.ACCOUNT),
        (raw(embedding="not base64!"), Reason.EMBEDDING),
        (raw(embedding=[1, None]), Reason.EMBEDDING),
        (raw()[:-1] + b',"embedding":[1e999]}', Reason.EMBEDDING),
        (raw(embedding=[0.0] * 8193), Reason.EMBEDDING),
        (raw(time=NOW // 1000), Reason.CLOCK),
        (raw(time=NOW * 1000), Reason.CLOCK),
        (raw(time=-1), Reason.CLOCK),
        (raw(time=LATEST_TIME), Reason.CLOCK),
        (raw()[:-1] + b',"time":123456789012345678901234567890}', Reason.CLOCK),
    ],
)
def test_what_breaks_the_contract_is_refused_with_its_reason(value: bytes, reason: Reason) -> None:
    assert refusal(value).reason is reason


def test_an_account_of_the_longest_length_in_any_script_is_accepted() -> None:
    account = "客" * MAX_ACCOUNT_CHARACTERS
    assert decode(raw(account=account)).account == account


def test_a_time_may_lie_a_day_after_the_record_and_any_time_before_it() -> None:
    assert decode(raw(), record_time=NOW - 24 * HOUR).time == NOW
    assert decode(raw(), record_time=NOW + 1000 * HOUR).time == NOW
    assert refusal(raw(), record_time=NOW - 24 * HOUR - 1).reason is Reason.CLOCK


def test_a_long_record_is_refused_unparsed() -> None:
    limits = RequestLimits(record_bytes=100)
    assert refusal(b"x" * 101, limits=limits).reason is Reason.OVERSIZE


@pytest.mark.parametrize("depth", [MAX_NESTING - 1, MAX_NESTING, 400_000])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"x":', b"}")])
def test_nesting_of_any_depth_in_a_field_nobody_reads_does_not_hide_the_prompt(
    depth: int, opening: bytes, closing: bytes
) -> None:
    depth = min(depth, 1_000_000 // len(opening + closing))
    deep = opening * depth + b"1" + closing * depth
    value = raw()[:-1] + b',"tools":' + deep + b',"prompt":"a \\"[{\\" \\\\","n":2}'
    event = decode(value)
    assert user_text(event) == 'a "[{" \\'
    assert event.n == 2


@pytest.mark.parametrize("ending", [b"", b"]]]]]]", b'"', b"}" * 300])
def test_deep_nesting_that_is_not_closed_is_not_json(ending: bytes) -> None:
    assert refusal(raw()[:-1] + b',"x":' + b"[" * 300 + ending).reason is Reason.NOT_JSON


def test_brackets_inside_a_prompt_are_not_nesting() -> None:
    prompt = '\\"[{' * 200 + "\\"
    assert text_of(prompt) == prompt


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (rb"tell me \ud83d", "tell me �"),
        (rb"\ude00 x", "� x"),
        (rb"\ud83d\ud83d\ude00", "�😀"),
        (rb"\ud83d\ude00\ude00", "😀�"),
        (rb"\\ud83d \ud83d", "\\ud83d �"),
        (rb"\\\ud83d", "\\�"),
        (rb"\uD83D\\ude00", "�\\ude00"),
        (b"broken \xff\xed\xa0\xbd", "broken ����"),
    ],
)
def test_broken_characters_are_repaired_and_the_text_is_read(written: bytes, read: str) -> None:
    value = raw()[:-1] + b',"prompt":"' + written + b'"}'
    assert user_text(decode(value)) == read


def test_broken_characters_in_fields_nobody_reads_do_not_hide_the_record() -> None:
    value = raw(prompt="hello")[:-1] + rb',"x":{"\ud83d":"\udc00"}}'
    assert user_text(decode(value)) == "hello"


def test_repair_leaves_good_text_alone() -> None:
    good = raw(prompt='emoji 😀 quote " backslash \\ tab \t') + rb'"\ud83d\ude00"'
    assert repair_text(good) == good


@pytest.mark.parametrize("filler", [rb"\ud83d", rb"\\", rb"\"", b"\xff", rb"\ud83d\ude00"])
def test_a_record_full_of_what_needs_repair_is_still_read(filler: bytes) -> None:
    """A repair that takes more than linear time would hang here until the suite's timeout."""
    value = raw()[:-1] + b',"prompt":"' + filler * (300_000 // len(filler)) + rb'\ud83d"}'
    assert decode(value).account == "acct_7"


def test_text_is_taken_whole() -> None:
    assert text_of("why?") == "why?"


@pytest.mark.parametrize("prompt", [None, "", " \n\t", [], [""], [{"role": "user", "content": ""}], [{"role": "user"}]])
def test_no_text_is_none(prompt: Any) -> None:
    assert text_of(prompt) is None


def test_only_the_last_user_turn_counts() -> None:
    messages = [
        {"role": "system", "content": "You are a helpful assistant. " * 500},
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "answer"},
        {"role": "user", "content": "second"},
        {"role": "assistant", "content": "prefill"},
    ]
    assert text_of(messages) == "second"


def test_a_turn_of_tool_results_does_not_hide_the_question() -> None:
    messages = [
        {"role": "user", "content": "question"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": 1}]},
        {"role": "tool", "content": "result"},
        {"role": "user", "content": [{"type": "tool_result", "content": [{"type": "text", "text": "42"}]}]},
    ]
    assert text_of(messages) == "question"


def test_parts_of_type_text_are_joined_and_images_are_dropped() -> None:
    parts = [
        {"type": "text", "text": "what is"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}},
        {"type": "input_text", "text": "in this picture?"},
        "please",
    ]
    assert text_of([{"role": "user", "content": parts}]) == "what is\nin this picture?\nplease"


def test_the_parts_shape_of_opentelemetry_and_gemini_is_read() -> None:
    assert text_of([{"role": "user", "parts": [{"type": "text", "content": "hello"}]}]) == "hello"
    assert text_of([{"role": "user", "parts": [{"text": "hello"}]}]) == "hello"
    assert text_of([{"role": "user", "content": {"type": "text", "text": "hello"}}, {"role": "tool"}]) == "hello"
    assert text_of([{"role": "system", "content": "x"}, "hello"]) == "hello"


@pytest.mark.parametrize("odd", [5, {"type": ["text"], "text": "x"}, [[], None, 5, {"text": 7}], {"type": "text"}])
def test_odd_contents_are_no_text_and_no_error(odd: Any) -> None:
    assert text_of([{"role": ["user"], "content": "x"}, {"role": "user", "content": odd}]) is None


def test_several_prompts_in_one_request_are_one_text() -> None:
    assert text_of(["one", "two"]) == "one\ntwo"


@pytest.mark.parametrize("prompt", [[1, 2], [[1, 2], [3]], ["a", 1]])
def test_token_ids_are_refused(prompt: Any) -> None:
    with pytest.raises(Rejected) as caught:
        text_of(prompt)
    assert caught.value.reason is Reason.TOKEN_IDS


@pytest.mark.parametrize(("status", "failed"), [(None, False), (200, False), (399, False), (400, True), (429, True)])
def test_a_status_of_400_or_more_means_failed(status: int | None, failed: bool) -> None:
    assert decode(raw(status=status)).failed is failed


def test_every_limit_of_the_contract_is_in_the_json_schema() -> None:
    fields = msgspec.json.schema(RequestEvent)["$defs"]["RequestEvent"]["properties"]
    assert fields["account"]["maxLength"] == MAX_ACCOUNT_CHARACTERS
