"""Customers that are not attackers, the strange ones above all: each a function of an account's name and chance.

What the docstring says is what the customer does; nothing is tuned to what the detector thinks of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from random import Random
from typing import Any

from detectors.embedding import load_wordllama
from streams.simulation.prose import JOBS, REMARKS
from tests.redteam import prose
from tests.redteam.cadence import DAY, HOUR, MINUTE, SECOND, START, busy_hours, clock, office, sittings, workers
from tests.redteam.evasions import embeddings_only
from tests.redteam.language import draw_topic, field, length, narrowed, passage
from tests.redteam.traffic import (
    Events,
    added,
    digest,
    events_of,
    failed,
    in_order,
    is_answered,
    long_answer,
    phrase_answer,
    short_answer,
    usual_answer,
)

Customer = Callable[[str, Random], Events]

# ---- people


def person(account: str, rng: Random, *, begin: float = START, days: int = 21, per_day: float | None = None) -> Events:
    """Somebody who works with the model on most days for three weeks."""
    writer = prose.Writer(rng)
    sat = sittings(begin, days, per_day or rng.uniform(20, 70), rng)
    prompts = [text for times in sat for text in writer.sitting(len(times))]
    return events_of(account, [t for times in sat for t in times], prompts, rng)


def very_quiet(account: str, rng: Random) -> Events:
    """A person with one or two requests a day, for six weeks."""
    return person(account, rng, days=42, per_day=rng.uniform(1.2, 2.5))


def occasional_questions(account: str, rng: Random) -> Events:
    """A person who asks one question at a time, each about something else, and hardly ever follows up."""
    times = office(START, rng.randint(150, 300), rng.uniform(6, 15), rng)
    return events_of(account, times, [prose.free_question(draw_topic(rng), rng) for _ in times], rng)


def back_after_a_year(account: str, rng: Random) -> Events:
    """A person for two weeks, and after a year again, with other projects."""
    before = person(account, rng, days=14)
    after = person(f"{account}/later", rng, days=14, begin=START + 370 * DAY)
    return before + [event | {"account": account} for event in after]


def classroom(account: str, rng: Random) -> Events:
    """Twenty-five pupils behind one account: two lessons a week on one subject, everybody at their own pace."""
    subject = field(rng, 5)
    pupils = [prose.Writer(rng, [narrowed(subject, 10, rng) for _ in range(4)]) for _ in range(25)]
    requests: list[tuple[int, str]] = []
    for lesson in range(6):
        begin = START + (lesson // 2 * 7 + lesson % 2 * 3) * DAY + 9 * HOUR
        task = prose.exercise(subject, rng)
        for pupil in pupils:
            texts = (
                [task, *pupil.sitting(rng.randint(2, 9))] if rng.random() < 0.6 else pupil.sitting(rng.randint(2, 9))
            )
            t = begin + rng.uniform(0, 10 * MINUTE)
            for text in texts:
                t += rng.lognormvariate(4.3, 0.8) * SECOND
                requests.append((int(t), text))
    return _sent(account, requests, rng)


def coding_agent(account: str, rng: Random) -> Events:
    """An agent at work on a project's files for 20 hours: each step says what it has read or run, file by file."""
    files = prose.code_base(60, rng)
    t, open_files = START + rng.uniform(0, DAY), rng.sample(files, 3)
    requests: list[tuple[int, str]] = []
    while len(requests) < 1800:
        t += rng.lognormvariate(3.4, 0.6) * SECOND
        if rng.random() < 0.12:
            open_files[rng.randrange(3)] = rng.choice(files)
        words = rng.choice(open_files)
        step = rng.random()
        if step < 0.1:
            text = "Continue."
        elif step < 0.5:
            text = f"Contents of {words[0]}/{words[1]}.py:\n{passage(words, length(rng, 120, 0.6), rng)}"
        elif step < 0.8:
            text = f"Exit code {rng.choice((0, 0, 1))}. Output:\n{passage(words, length(rng, 30), rng)}"
        else:
            text = f"Applied the patch to {words[0]}/{words[1]}.py. Next: {passage(words, 12, rng)}"
        requests.append((int(t), text))
    return _sent(account, requests, rng)


def red_teaming(account: str, rng: Random) -> Events:
    """A safety team: attempts at some dozen forbidden things, each attempt changed in many ways, by hand and script."""
    goals = [narrowed(draw_topic(rng), 6, rng) for _ in range(rng.randint(12, 30))]
    wrappings = [passage(draw_topic(rng), rng.randint(15, 80), rng) for _ in range(12)]
    times = workers(START + rng.uniform(0, 2) * DAY, rng.randint(500, 900), 40.0, rng)
    prompts = []
    for _ in times:
        goal = passage(rng.choice(goals), 14, rng, common=0.0)
        prompts.append(f"{rng.choice(wrappings)} {goal}" if rng.random() < 0.7 else goal)
    return events_of(account, times, prompts, rng)


def labelling_team(account: str, rng: Random) -> Events:
    """Eight labellers in office hours, each pasting different items below one guideline; some fields come back."""
    subject, guideline = field(rng, 6), passage(draw_topic(rng), 60, rng)
    times = office(START, rng.randint(500, 900), 80, rng)
    prompts = [f"{guideline}\n\nItem: {prose.document(subject, 40, rng)}" for _ in times]
    return events_of(account, times, prompts, rng, answer=phrase_answer)


# ---- services


def question_service(account: str, rng: Random, *, users: int = 0, slope: float | None = None, days: int = 7) -> Events:
    """The questions of a service's users, popular ones again and again (Zipf)."""
    asked = prose.questions(field(rng, 6), rng.randint(300, 1500), rng)
    times = busy_hours(START, days, rng.randint(500, 1200), rng)
    weights = list(accumulate(rank ** -(slope or rng.uniform(0.7, 1.0)) for rank in range(1, len(asked) + 1)))
    events = events_of(account, times, rng.choices(asked, cum_weights=weights, k=len(times)), rng)
    return _with_users(events, users, rng) if users else events


def _with_users(events: Events, count: int, rng: Random) -> Events:
    """Each request by one of `count` users, some of whom come often."""
    names = [digest(events[0]["account"], "user", number) for number in range(count)]
    return [event | {"end_user": names[int(rng.paretovariate(0.8)) % count]} for event in events]


def users_of_an_app(account: str, rng: Random, *, named: bool, many_subjects: bool = False) -> Events:
    """An app whose users talk with the model: some hundred sittings of different people, interleaved."""
    subject = field(rng, 8)
    requests, users = [], []
    for number in range(rng.randint(120, 200)):
        topics = [draw_topic(rng) if many_subjects else narrowed(subject, 10, rng) for _ in range(2)]
        writer = prose.Writer(rng, topics)
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            t = float(rng.choice(busy_hours(START, 7, 20, rng)))
            for text in writer.sitting(rng.randint(1, 6)):
                t += rng.lognormvariate(4.2, 1.0) * SECOND
                requests.append((int(t), text))
                users.append(digest(account, "user", number))
    order = sorted(range(len(requests)), key=lambda i: requests[i][0])
    events = _sent(account, [requests[i] for i in order], rng)
    if not named:
        return events
    return [event | {"end_user": users[i]} for event, i in zip(events, order, strict=True)]


def support_bot(account: str, rng: Random, *, users: int = 0) -> Events:
    """Questions about one product in the users' own words, hardly any twice to the letter, and some greetings."""
    product, greets = field(rng, 3), rng.uniform(0, 0.25)
    times = busy_hours(START, 7, rng.randint(500, 900), rng)
    prompts = [
        rng.choice(REMARKS) if rng.random() < greets else prose.free_question(narrowed(product, 12, rng), rng)
        for _ in times
    ]
    events = events_of(account, times, prompts, rng)
    return _with_users(events, users, rng) if users else events


def with_passages(account: str, rng: Random) -> Events:
    """A search that answers from documents: passages that were found stand before each question, popular ones often."""
    library = [prose.document(narrowed(field(rng, 2), 20, rng), 70, rng) for _ in range(120)]
    weights = list(accumulate(rank**-0.8 for rank in range(1, len(library) + 1)))
    times = busy_hours(START, 7, rng.randint(500, 900), rng)
    prompts = []
    for _ in times:
        found = rng.choices(library, cum_weights=weights, k=3)
        prompts.append("\n\n".join([*found, f"Question: {' '.join(rng.sample(found[0].split(), 6))}?"]))
    return events_of(account, times, prompts, rng)


def reseller(account: str, rng: Random) -> Events:
    """Twenty apps of other companies behind one account, no users named."""
    apps = [prose.questions(field(rng, 3), 400, rng) for _ in range(20)]
    times = busy_hours(START, 7, rng.randint(900, 1500), rng)
    return events_of(account, times, [rng.choice(rng.choice(apps)) for _ in times], rng)


def translation(account: str, rng: Random) -> Events:
    """A translation service: paragraphs of all kinds of pages, each once, answers as long as the text."""
    times = busy_hours(START, 5, rng.randint(600, 1000), rng)
    tongues = rng.sample(("French", "German", "Spanish", "Japanese", "Polish", "Hindi"), 4)
    prompts = []
    for _ in times:
        text = prose.document(draw_topic(rng), 45, rng)
        prompts.append(f"Translate into {rng.choice(tongues)}:\n{text}")
    events = events_of(account, times, prompts, rng)
    return [
        e | {"output_tokens": round(e["input_tokens"] * rng.uniform(0.9, 1.6))} if is_answered(e) else e for e in events
    ]


def launch_day(account: str, rng: Random) -> Events:
    """A service that hardly anybody used for a week, and everybody on one day."""
    asked = prose.questions(field(rng, 5), 1200, rng)
    weights = list(accumulate(rank**-0.8 for rank in range(1, len(asked) + 1)))
    times = [*busy_hours(START, 7, 60, rng), *busy_hours(START + 7 * DAY, 1, 1000, rng)]
    return events_of(account, times, rng.choices(asked, cum_weights=weights, k=len(times)), rng)


def retry_storm(account: str, rng: Random) -> Events:
    """A service during an outage: requests fail and are sent again at once, up to eight times."""
    found: Events = []
    for event in question_service(account, rng, days=3):
        out = 0.3 < (int(event["time"]) - START) / (3 * DAY) < 0.6
        tries, t = 0, int(event["time"])
        while out and tries < 8 and rng.random() < 0.8:
            found.append(failed(added(event, t, "try", tries), rng.choice((429, 500, 503))))
            tries, t = tries + 1, t + rng.randint(200, 2000)
        found.append(event | {"time": t})
    return in_order(found)


# ---- jobs


def _job(
    account: str,
    rng: Random,
    *,
    texts: Sequence[str],
    template: str,
    gap: float,
    answer: Any,
    begin: float | None = None,
) -> Events:
    begin = START + rng.uniform(0, 2) * DAY if begin is None else begin
    return events_of(
        account, workers(begin, len(texts), gap, rng), [template.format(x) for x in texts], rng, answer=answer
    )


def crawler(account: str, rng: Random) -> Events:
    """Summaries of pages, site by site, each page once."""
    texts: list[str] = []
    while len(texts) < 600:
        site = field(rng, 3)
        texts += [prose.document(site, 150, rng) for _ in range(rng.randint(10, 60))]
    template = "Summarise this page in three sentences.\n\n{}"
    return _job(account, rng, texts=texts, template=template, gap=6.0, answer=usual_answer)


def back_fill(account: str, rng: Random) -> Events:
    """A migration: some thousand records of one product's data base through one prompt, as fast as it goes."""
    subject = field(rng, 5)
    template = "Write a description of at most 60 words for this record.\n{}"
    texts = [f"id: {rng.randrange(10**6)}; {prose.document(subject, 18, rng)}" for _ in range(2000)]
    return _job(account, rng, texts=texts, template=template, gap=1.0, answer=phrase_answer)


def bulk_long(account: str, rng: Random) -> Events:
    """A bulk job over documents of all kinds with long answers, each once."""
    texts = [prose.document(draw_topic(rng), 90, rng) for _ in range(rng.randint(400, 700))]
    template = "Write a detailed report on the following text, with all its implications.\n\n{}"
    return _job(account, rng, texts=texts, template=template, gap=10.0, answer=long_answer)


def bulk_short(account: str, rng: Random) -> Events:
    """A bulk job over documents of all kinds with a label as the answer, each once."""
    texts = [prose.document(draw_topic(rng), 40, rng) for _ in range(rng.randint(400, 700))]
    return _job(account, rng, texts=texts, template=rng.choice(JOBS), gap=2.0, answer=short_answer)


def extraction_of_fields(account: str, rng: Random) -> Events:
    """A bulk job over one company's mail, each once, with a few fields as the answer, some hundred each night."""
    subject = field(rng, 8)
    found: list[tuple[int, str]] = []
    for night in range(5):
        times = clock(START + night * DAY + 2 * HOUR, rng.randint(100, 200), 4.0, 0.3, rng)
        found += [(t, f"Fields as JSON (sender, topic, urgency):\n{prose.document(subject, 60, rng)}") for t in times]
    return _sent(account, found, rng, answer=phrase_answer)


def heartbeat(account: str, rng: Random) -> Events:
    """One prompt by the clock."""
    times = clock(START, 1000, rng.choice((600.0, 900.0)), 0.02, rng)
    return events_of(account, times, ["Reply with OK."] * len(times), rng, answer=short_answer)


def load_test(account: str, rng: Random) -> Events:
    """Five prompts, as fast as it goes."""
    asked = prose.questions(field(rng, 3), 5, rng)
    times = clock(START + DAY, 1500, 0.4, 0.2, rng)
    return events_of(account, times, [asked[i % 5] for i in range(len(times))], rng)


def nightly_evaluation(account: str, rng: Random) -> Events:
    """One set of exercises, the same again each night."""
    asked = prose.exercises(rng.randint(90, 150), rng)
    return _nightly(account, [asked] * 10, rng)


def changing_evaluation(account: str, rng: Random) -> Events:
    """An evaluation each night whose exercises are drawn anew."""
    return _nightly(account, [prose.exercises(rng.randint(90, 150), rng) for _ in range(10)], rng)


def sampled_evaluation(account: str, rng: Random) -> Events:
    """An evaluation each night of a hundred exercises sampled from a pool of a thousand."""
    pool = prose.exercises(1000, rng)
    return _nightly(account, [rng.sample(pool, 100) for _ in range(10)], rng)


def _nightly(account: str, sets: Sequence[Sequence[str]], rng: Random) -> Events:
    requests: list[tuple[int, str]] = []
    for night, prompts in enumerate(sets):
        begin = START + night * DAY + 2 * HOUR + rng.uniform(0, 5 * MINUTE)
        requests += zip(clock(begin, len(prompts), 1.5, 0.5, rng), prompts, strict=True)
    return _sent(account, requests, rng)


# ---- variants


def _sent(account: str, requests: Sequence[tuple[int, str]], rng: Random, *, answer: Any = usual_answer) -> Events:
    times, prompts = zip(*sorted(requests, key=lambda request: request[0]), strict=True)
    return events_of(account, times, prompts, rng, answer=answer)


def _with_fresh_user(customer: Customer) -> Customer:
    """The same customer, whose client sends a new `end_user` on every call."""

    def made(account: str, rng: Random) -> Events:
        return [event | {"end_user": digest(event["id"], "call")} for event in customer(account, rng)]

    return made


def _embedded(customer: Customer, noise: float) -> Customer:
    """The same customer behind a gateway that embeds, with some noise."""

    def made(account: str, rng: Random) -> Events:
        return embeddings_only(customer(account, rng), rng, embedder=load_wordllama(), noise=noise)

    return made


CUSTOMERS: dict[str, Customer] = {
    # people
    "person": person,
    "very quiet person": very_quiet,
    "person who never follows up": occasional_questions,
    "back after a year": back_after_a_year,
    "classroom": classroom,
    "coding agent, 20 hours": coding_agent,
    "coding agent, fresh user each call": _with_fresh_user(coding_agent),
    "safety team's red-teaming": red_teaming,
    "data-labelling team": labelling_team,
    # services
    "service": question_service,
    "service, users named": partial(question_service, users=400),
    "service, fresh user each call": _with_fresh_user(question_service),
    "service, embeddings with 1 % noise": _embedded(question_service, 0.01),
    "app with real users, named": partial(users_of_an_app, named=True),
    "app with real users, not named": partial(users_of_an_app, named=False),
    "chat app on everything, users named": partial(users_of_an_app, named=True, many_subjects=True),
    "chat app on everything, not named": partial(users_of_an_app, named=False, many_subjects=True),
    "support bot": support_bot,
    "support bot, users named": partial(support_bot, users=400),
    "answers from found passages": with_passages,
    "reseller without users": reseller,
    "translation service": translation,
    "launch day": launch_day,
    "retry storm": retry_storm,
    # jobs
    "crawler that summarises pages": crawler,
    "migration back-fill": back_fill,
    "bulk job, long answers": bulk_long,
    "bulk job, short answers": bulk_short,
    "mail to fields, nightly": extraction_of_fields,
    "heartbeat": heartbeat,
    "load test": load_test,
    "nightly evaluation": nightly_evaluation,
    "evaluation, new set each night": changing_evaluation,
    "evaluation, sampled from a pool": sampled_evaluation,
}
"""Every customer by name."""
