"""Organic prose: a person who follows up, a service's popular questions, the documents of a bulk job.

The texts are built from frames and a vocabulary of some fifty subjects, so that their embeddings keep the distances
that real text has: what belongs to one conversation shares its words, what does not shares only the frame.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

from streams.simulation.vocabulary import NAMES, PLACES, Domain, Focus, domains, draw_focus

OPENINGS = (
    "How do I {act} the {thing} {setting}?",
    "I have {trouble} with my {thing}. What can I do?",
    "What should I know about {trait} before I {act} the {thing}?",
    "{thing} or {other} {setting}, which one would you take?",
    "Explain {trait} of a {thing} to me, I am new to {domain}",
    "Is it normal that the {thing} shows {trouble} after {n} days?",
    "My {thing} needs attention: {trouble}, and the {other} is next to it. Ideas?",
    "give me a checklist to {act} a {thing} {setting}",
    "Can I {act} the {thing} and the {other} at the same time?",
    "Where would you start if you had to {act} a {thing} {setting}",
    "I read that {trait} matters a lot for a {thing}. Is that true {setting}?",
    "Write a short note to {name} about the {thing} and {trouble}",
    "I am trying to {act} the {thing} but I keep getting {trouble}",
    "whats the best way to avoid {trouble} {setting}",
    "Compare {thing} and {other} in terms of {trait}",
    "Quick question about {thing}: how much does {trait} count?",
    "We want to {act} our {thing} {setting}, {name} says it is not possible because of {trouble}",
    "Step by step please: {act} the {thing}, deal with {trouble}, then the {other}",
    "Help me understand why {trouble} happens with a {thing}",
    "I need a plan for the {thing} {setting}, mind the {trait}",
)
FOLLOW_UPS = (
    "and the {thing}?",
    "ok and how does {trait} change if I {act} the {thing} later",
    "what about {trouble}, will the {thing} still have it",
    "I tried that, the {thing} still has {trouble}",
    "does the same go for the {other}?",
    "so I should {act} the {thing} first and then the {other}?",
    "how often do I need to {act} the {thing}",
    "why is {trait} better for the {thing} than for the {other}",
    "the {thing} looks fine now but {trouble} came back",
    "which {thing} would you buy {setting}?",
    "you said {trait} earlier, how do I check that on the {thing}",
    "and if I do not {act} the {thing} at all?",
    "how long does it take until {trouble} is gone from the {thing}",
    "can {trouble} come from the {other} instead of the {thing}",
    "is {n} too much for the {thing}?",
    "what do I tell {name} about the {thing}",
    "rewrite the part about the {thing} so that {trait} comes first",
    "then {act} the {thing} {setting}, right?",
    "what did you mean by {trait}",
    "let us go on with the {thing}. what about {trouble}",
    "hm, the {other} has {trouble} too now",
    "put the {thing} and the {other} into a table with {trait}",
    "are there cheaper ways to {act} a {thing}",
    "so no {trouble} if the {trait} is right?",
)
ANAPHORS = (
    "can you make that shorter",
    "why?",
    "say that again in simpler words",
    "are you sure about that",
    "give me an example",
    "what would that cost",
    "that did not work",
    "turn this into a list please",
    "which of these is the easiest",
    "and after that?",
    "how long does that take",
    "what else could it be",
    "more formal please",
    "can you explain the second step",
    "I do not understand the last part",
    "and in numbers?",
)
REMARKS = (
    "thanks",
    "ok",
    "continue",
    "yes",
    "great, thanks",
    "go on",
    "no",
    "perfect",
    "please continue",
    "thank you",
    "hello",
    "got it",
)
NOTES = (
    "Here is where I am: the {thing} is done, the {other} is not, and {trouble} shows up again {setting}.",
    "{name} wanted to {act} the {thing} last week because of {trouble}.",
    "We looked at {trait} and decided to {act} the {thing} before the {other}.",
    "The {thing} was bought {n} months ago in {place} and has had {trouble} ever since.",
    "For me {trait} is more important than price, that is why I kept the {thing}.",
    "Last time I did {act} the {other}, which made {trouble} worse.",
)
GREETINGS = ("hi, ", "hey ", "Hello! ", "good morning, ", "ok so ", "sorry, ", "right, ")
CLOSINGS = (" thanks", " please", " thx!", " Thank you.", " cheers", " (short answer please)", " ...", "?")


def fill(frame: str, focus: Focus, rng: Random) -> str:
    """Put the words of `focus` into `frame`; its numbers, names and places are drawn."""
    return frame.format(**focus.words(), n=rng.randint(2, 60), name=rng.choice(NAMES), place=rng.choice(PLACES))


class Person:
    """One writer: some projects, each a few words of one subject, and habits of wording.

    A session stays on one project, and the next message mostly speaks of what the last one spoke of. Projects are taken
    up again after days; now and then a new one replaces an old one.

    Parameters
    ----------
    rng
        Source of every choice.
    """

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        subjects = rng.sample(domains(), rng.randint(2, 4))
        self._projects = [draw_focus(rng.choice(subjects), rng) for _ in range(rng.randint(5, 9))]
        self._current = 0
        self._openings = rng.sample(OPENINGS, 12)
        self._follow_ups = rng.sample(FOLLOW_UPS, 14)
        self._remarks = rng.sample(REMARKS, 4)
        self._lower_case = rng.random() < 0.5
        self._greets, self._closes = rng.uniform(0, 0.3), rng.uniform(0, 0.3)
        self._anaphoric, self._remarking, self._noting = (
            rng.uniform(0.05, 0.15),
            rng.uniform(0.04, 0.1),
            rng.uniform(0.1, 0.3),
        )

    def session(self, length: int) -> list[str]:
        """The texts of one sitting of `length` messages, which may wander to a second project half way."""
        self._take_up()
        texts = []
        for i in range(length):
            if i and self._rng.random() < 0.08:
                self._take_up()
                texts.append(self._styled(self._opening()))
            elif i == 0:
                texts.append(self._styled(self._opening()))
            else:
                texts.append(self._next())
        return texts

    def _take_up(self) -> None:
        """Choose a project: most often the last one, else another; now and then a new one replaces an old."""
        rng = self._rng
        if rng.random() < 0.45:
            return
        self._current = rng.randrange(len(self._projects))
        if rng.random() < 0.25:
            self._projects[self._current] = draw_focus(self._projects[self._current].domain, rng)

    def _opening(self) -> str:
        focus = self._projects[self._current]
        text = fill(self._rng.choice(self._openings), focus, self._rng)
        if self._rng.random() < self._noting:
            text += " " + fill(self._rng.choice(NOTES), focus, self._rng)
        return text

    def _next(self) -> str:
        rng, draw = self._rng, self._rng.random()
        if draw < self._remarking:
            return rng.choice(self._remarks)
        if draw < self._remarking + self._anaphoric:
            return self._styled(rng.choice(ANAPHORS))
        self._drift()
        focus = self._projects[self._current]
        text = fill(rng.choice(self._follow_ups), focus, rng)
        if rng.random() < self._noting:
            text = fill(rng.choice(NOTES), focus, rng) + " " + text
        return self._styled(text)

    def _drift(self) -> None:
        """Move one word of the focus, so that a conversation wanders inside its subject."""
        rng, focus = self._rng, self._projects[self._current]
        if rng.random() < 0.35:
            words = rng.choice(("act", "trouble", "trait", "other"))
            choices = {"act": focus.domain.acts, "trouble": focus.domain.troubles, "trait": focus.domain.traits}
            moved: Any = {words: rng.choice(choices.get(words, focus.domain.things))}
            self._projects[self._current] = replace(focus, **moved)

    def _styled(self, text: str) -> str:
        rng = self._rng
        if self._lower_case:
            text = text.lower()
        if rng.random() < self._greets:
            text = rng.choice(GREETINGS) + text
        if rng.random() < self._closes:
            text += rng.choice(CLOSINGS)
        return text


SUPPORT = (
    "How can I {act} my {thing}?",
    "I have {trouble}, what happens with my {thing}?",
    "Can I {act} the {thing} {setting}?",
    "what is the {trait} for a {thing}",
    "I want to {act} the {thing} I ordered {setting}",
    "Where do I find the {trait} of my {thing}?",
    "{trouble} - who do I contact about my {thing}",
    "Do I need to {act} the {thing} before I {act} the {other}",
    "my {thing} has {trouble}",
)
SEARCH = (
    "{thing} {trait}",
    "{act} {thing}",
    "{thing} {trouble}",
    "{thing} vs {other}",
    "best {thing} {setting}",
    "{thing} {setting}",
    "{trait} {domain}",
    "{other} {trouble} {domain}",
)
ASSISTANT = (
    "remind me to {act} the {thing} {setting}",
    "tell me about {trait} in {domain}",
    "what does {trait} mean for a {thing}",
    "read the news about {domain}",
    "add {thing} to my list",
    "how do you {act} a {thing}",
    "find someone in {place} who can {act} a {thing}",
)


def popular_questions(domain: Domain, count: int, rng: Random) -> list[str]:
    """`count` different questions that the users of one service ask, in one of three manners of asking."""
    frames = rng.choice((SUPPORT, SEARCH, ASSISTANT))
    questions: dict[str, None] = {}
    while len(questions) < count:
        questions[fill(rng.choice(frames), draw_focus(domain, rng), rng)] = None
    return list(questions)


JOBS = (
    "Is the following review positive or negative? Answer with one word.\n\nReview: {}",
    "Assign one label (billing, delivery, quality, other) to the ticket below.\n\n{}\n\nLabel:",
    "Does this note mention a safety problem? Reply yes or no.\nNote: {}",
    'Rate the urgency of this message from 1 to 5. Give the number only.\n"""{}"""',
    "Which language is this text written in?\n\n{}\n\nAnswer:",
    "Topic of the headline (sports, politics, business, science)? Headline: {}",
)
REPORTS = (
    "The {thing} arrived with {trouble} and nobody could {act} it.",
    "I am happy with the {trait} of the {thing}, but the {other} was a disappointment.",
    "After {n} days {setting} the {thing} is still working as promised.",
    "{name} from the {place} office asked whether we {act} the {thing} or the {other}.",
    "There was {trouble} again, so I had to {act} the {thing} myself.",
    "Great {trait}, would recommend the {thing} to anyone {setting}.",
    "Not worth {n} euros: poor {trait} and {trouble}.",
    "We could not {act} the {other} because of {trouble}.",
)


def documents(domain: Domain, count: int, rng: Random) -> list[str]:
    """`count` different short reports about one subject, as a bulk job would work through."""
    texts: dict[str, None] = {}
    while len(texts) < count:
        focus = draw_focus(domain, rng)
        texts[" ".join(fill(x, focus, rng) for x in rng.sample(REPORTS, rng.randint(2, 4)))] = None
    return list(texts)
