"""Extraction prompts: broad sets of exercises over many capabilities and subjects, none of them twice."""

from __future__ import annotations

from random import Random

from streams.simulation.vocabulary import NAMES, PLACES, Focus, domains, draw_focus

CAPABILITIES: dict[str, tuple[str, ...]] = {
    "arithmetic": (
        "{name} buys {a} boxes of {b} pieces for the {thing} and gives {c} to {friend}. How many are left?",
        "A shop in {place} sells a {thing} for {a} dollars and a {other} for {b}. "
        "What do {c} of each cost after a {d} percent discount?",
        "A train leaves {place} at {c} km/h and {d} minutes later another leaves at {a} km/h. When does it catch up?",
        "{name} works {a} hours a week at {b} dollars and saves {d} percent. How much is saved after {c} weeks?",
        "If {a} workers {act} a {thing} in {b} days, how many days do {c} workers need?",
        "The sum of three consecutive numbers is {a}. Find the product of the smallest and {b}.",
    ),
    "code": (
        "Write a Python function that takes a list of {thing} records and returns those whose {trait} is above {a}.",
        "Implement a class in Java that models a {thing} with methods to {act} it and report {trait}. Add unit tests.",
        "def solve(values):\n    '''Return the {c}-th largest {trait} of each {thing}.'''\n\nComplete the function.",
        "Write a SQL query that lists every {thing} in {place} with its average {trait}, grouped by {other}.",
        "Convert this loop into functional JavaScript: for (let i = 0; i < {a}; i++) total += items[i].{name};",
        "Write a regular expression that matches dates and explain each group. Sample line: {a}/{c}/20{d} {thing}",
        "Find the bug: while low < high: mid = (low + high) // {c}; if data[mid] < {a}: low = mid",
    ),
    "explanation": (
        "Explain how {trait} affects a {thing}, first to a child, then to an expert.",
        "What is the underlying reason for {trouble} in {domain}? Describe the mechanism.",
        "Describe in detail how professionals {act} a {thing} and which mistakes are common.",
        "Summarise the history of the {thing} in five paragraphs.",
    ),
    "comparison": (
        "Contrast {thing} with {other} with respect to {trait} and list three situations where each is preferable.",
        "Give arguments for and against the claim that {trait} matters more than cost in {domain}.",
        "Create a table comparing four kinds of {thing} by {trait}.",
    ),
    "fiction": (
        "Write a story of {a} words in which {name} finds a {thing} in {place} and must face {trouble}.",
        "Compose a sonnet about a {thing} and {trouble}.",
        "Write a dialogue between {name}, who wants to {act} the {thing}, and {friend}, who fears {trouble}.",
        "Invent a myth that explains why every {thing} has {trait}.",
    ),
    "rewriting": (
        "Rewrite in the passive voice: {name} will {act} the {thing} {setting}.",
        'Correct the grammar: "{name} have went to {place} for {act} the {thing}, it were {trouble}."',
        "Make this sentence more formal: hey {name}, the {thing} is broken again, {trouble} everywhere.",
        'Translate into French, Spanish and German: "The {thing} {setting} needs better {trait}."',
    ),
    "classification": (
        'Classify the sentiment and justify: "The {thing} was fine, but {trouble} ruined our stay in {place}."',
        "Which of these does not belong: {thing}, {other}, {trait}, {place}? Explain.",
        "Label each word as noun, verb or adjective: {name} quickly wants to {act} {a} pieces of {thing}.",
        "Extract the entities as JSON: {name} and {friend} met in {place} on day {c} to {act} a {thing} for {a} euros.",
    ),
    "logic": (
        "{name} is taller than {friend}. {friend} is not older than {third}. One of them lies about the {thing}. Who?",
        "All {thing} owners in {place} fear {trouble}. Some who fear {trouble} also {act} it. What follows?",
        "Five houses hold a {thing}, a {other} and {a} coins. {name} lives left of {friend}. Who owns the {other}?",
        "Today is day {c}. {name} meets {friend} every {a} days and {third} every {b} days. When do all three meet?",
    ),
    "planning": (
        "Design a {c}-week course on {domain} with goals, exercises about {thing} and a final test.",
        "Make a project plan with risks and milestones to {act} a {thing} {setting}.",
        "Generate {c} creative ideas for a product that prevents {trouble}.",
    ),
    "quiz": (
        "Write a multiple choice question on {trait} in {domain} with four options and explain the right answer.",
        "What is the capital of the country in which {place} lies, and which {thing} is it known for?",
        "True or false: a {thing} can cause {trouble} {setting}. Justify.",
        "Name {c} famous persons connected with {domain} and one fact about each.",
    ),
    "advice": (
        "Write an email in which {name} apologises to {friend} for {trouble} and offers to {act} the {thing}.",
        "Give safety advice for someone who has to {act} a {thing} {setting}.",
        "A colleague hides {trouble} from a customer in {place}. Discuss the ethical dilemma.",
        "Act as an interviewer for a position in {domain} and ask {c} hard questions with model answers.",
    ),
    "analogy": (
        "Complete the analogy and explain: {thing} is to {trait} as {other} is to what?",
        "Find a metaphor for {trouble} from {domain} and use it in a speech of {a} sentences.",
        "Give {c} synonyms and antonyms for the key words in: {act} the {thing}.",
    ),
    "science": (
        "Estimate how many {thing} units exist in {place}. State your assumptions.",
        "A mass of {a} kg falls {b} metres onto a {thing}. Compute the energy and the speed at impact.",
        "Balance the budget of heat for a {thing} of {a} litres cooling from {b} to {c} degrees.",
        "Propose an experiment that measures {trait} of a {thing} and name the control group.",
    ),
}

REASONING = (
    "Think through the problem step by step and write out your full reasoning before the answer.\n\n{}",
    "{}\n\nExplain every step of your reasoning in detail, then give the final answer on its own line.",
    "You are an expert tutor. Show the complete chain of thought for the following.\n\n{}",
)


def exercises(count: int, rng: Random, capabilities: tuple[str, ...] = tuple(CAPABILITIES)) -> list[str]:
    """`count` different prompts, each of a random capability out of `capabilities` and a random subject."""
    prompts: dict[str, None] = {}
    while len(prompts) < count:
        frame = rng.choice(CAPABILITIES[rng.choice(capabilities)])
        prompts[_exercise(frame, draw_focus(rng.choice(domains()), rng), rng)] = None
    return list(prompts)


def _exercise(frame: str, focus: Focus, rng: Random) -> str:
    name, friend, third = rng.sample(NAMES, 3)
    return frame.format(
        **focus.words(),
        name=name,
        friend=friend,
        third=third,
        place=rng.choice(PLACES),
        a=rng.randint(20, 400),
        b=rng.randint(3, 90),
        c=rng.randint(3, 12),
        d=rng.randint(10, 60),
    )
