"""The parser: a model may answer anything, and a user's bank must hold only phrases that are whole and clean."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from concord.concepts.bank import ClassConcepts
from concord.concepts.llm.parse import MOST_CHARACTERS, Refusal, read_answer
from concord.concepts.llm.prompts import PROMPTS, again

DOG = ["long rounded ears", "a white-tipped tail", "tricolour coat", "broad skull", "deep chest"]
ALIKE = ["English foxhound", "harrier"]
OBJECT = {"look_alikes": ALIKE, "phrases": DOG}


DRAFT = json.dumps({"look_alikes": ["wolf", "fox"], "phrases": [f"vague {p}" for p in DOG]})
THOUGHTS = {
    **{name: f"<{name}>{{}}</{name}>" for name in ("think", "THINK", "Thinking", "thought", "thoughts", "reasoning")},
    **{f"{name} in others": f"[{name}]{{}}[/{name}]" for name in ("THINK", "think", "Reasoning")},
    "kimi": "◁think▷{}◁/think▷",
    "seed": "<seed:think>{}</seed:think>",
    "cohere": "<|START_THINKING|>{}<|END_THINKING|><|START_RESPONSE|>",
    "sky": "<|begin_of_thought|>{}<|end_of_thought|>\n<|begin_of_solution|>",
    "apriel": "{}[BEGIN FINAL RESPONSE]\n",
    "gemma": "<|channel>thought\n{}<channel|>",
    "harmony": "<|channel|>analysis<|message|>{}<|end|><|start|>assistant<|channel|>final<|message|>",
    "harmony, twice": "<|channel|>analysis<|message|>{}<|end|><|start|>assistant<|channel|>commentary<|message|>{}"
    "<|end|><|start|>assistant<|channel|>final <|message|>",
    "harmony without its marks": "analysisWe need phrases. {}assistantfinal",
    "its beginning in the prompt": "{}</think>",
    "two": "<think>{}</think>No.\n<think>{}</think>",
}


def read(text: str, wanted: int = 5, name: str = "beagle", **more: str) -> ClassConcepts | Refusal:
    return read_answer(text, name, wanted, **more)


def lines(form: str, phrases: list[str] = DOG) -> str:
    return "\n".join(form.format(i=i, p=p, P=p.capitalize()) for i, p in enumerate(phrases, 1))


ANSWERS = {
    "json": json.dumps(OBJECT),
    "indented": json.dumps(OBJECT, indent=2),
    "fence": f"```json\n{json.dumps(OBJECT, indent=4)}\n```",
    "in prose": f"Here's what I'd say: {json.dumps(OBJECT)} That's it, isn't it? \"Yes\".",
    "tags": f"<answer>{json.dumps(OBJECT)}</answer> trailing [1, 2]",
    "after thoughts": f'<think>["draft one", "draft two", "draft three"] hm</think>\n{json.dumps(OBJECT)}',
    "json in a string": json.dumps(json.dumps(OBJECT)),
    "python": repr(OBJECT),
    "tuple": f"<answer>{('beagle', DOG)!r}</answer>",
    "tuple, cut": f"<answer>{('beagle', DOG)!r}"[:-2],
    "class as key": json.dumps({"beagle": DOG}),
    "objects": json.dumps({"phrases": [{"phrase": p, "why": "as it tells them apart"} for p in DOG]}),
    "numbered keys": json.dumps({"phrases": {str(i): p for i, p in enumerate(DOG)}}),
    "keys of phrases": json.dumps({f"phrase{i}": p for i, p in enumerate(DOG)}),
    "with reasoning": json.dumps({"reasoning": "harriers are alike, but larger", **OBJECT, "note": "done"}),
    "lists alone": json.dumps([ALIKE, DOG]),
    "keys in another language": json.dumps({"类似": ALIKE, "短语": DOG}, ensure_ascii=False),
    "no quotes at keys": "{look_alikes: ['harrier'], phrases: " + repr(DOG) + ",}",
    "curly quotes": "[" + ", ".join(f"“{p}”" for p in DOG) + "]",
    "numbered": lines("{i}. {P}."),
    "numbered with quotes": lines('{i}) "{p}",'),
    "bullets": lines("- {p}"),
    "stars": lines("* **{P}**"),
    "dots": lines("• {p};"),
    "plain lines": lines("{p}"),
    "class in front": lines("{i}. A beagle with {p}."),
    "prose around": f"Sure, here are five phrases for you:\n\n{lines('{i}. {p}')}\n\nI hope this helps. Tell me!",
    "headings": f"## Look-alikes\n- English foxhound\n- harrier\n\n## Phrases\n{lines('- {p}')}",
    "look-alikes in a line": f"**Look-alikes:** English foxhound and harrier\n**Phrases:**\n{lines('{i}. {p}')}",
    "too many": json.dumps({"phrases": [*DOG, "dark eyes", "black nose"]}),
    "texts with reasons": json.dumps([{"text": p, "reason": "harriers are larger"} for p in DOG]),
    "reasons first": json.dumps({"phrases": [{"reason": "as harriers are larger than most", "text": p} for p in DOG]}),
    "parts and looks": json.dumps({"answer": [{"part": "head", "look": p} for p in DOG]}),
    "an object a line": "\n".join(json.dumps({"phrase": p, "why": "harriers are larger"}) for p in DOG),
    "table": "Here you are:\n\n| # | Phrase | Why |\n|:--|---|--:|\n"
    + lines("| {i} | **{P}** | harriers are larger |"),
    "table without a head for it": "|Part|Look|\n|--|--|\n" + lines("|{i}|{p}|") + "\n\nThat is all.",
    "table with look-alikes": "| Look-alike | Visible feature |\n|---|---|\n" + lines("| harrier | {p} |"),
    "letters": "a) long rounded ears\nb) a white-tipped tail\nc) tricolour coat\nd) broad skull\ne) deep chest",
    "ticks": lines("✅ {p}"),
    "semicolons": f"Phrases: {'; '.join(DOG)}.",
    "yaml": f"look_alikes:\n  - harrier\nphrases:\n{lines('  - {p}')}",
    "parts in front": lines("{i}. {p}").replace("1. ", "## Head\n1. ").replace("4. ", "## Body\n4. "),
    "brackets inside": "Phrases [five, as asked]:\n" + lines("{i}. {p}"),
    "drafts and an answer": f"First try:\n{DRAFT}\nToo vague [see above]. Better:\n```json\n{json.dumps(OBJECT)}\n```",
    "an answer and a draft of more": f"{json.dumps(OBJECT)}\n\nOr: {json.dumps({'phrases': ['shiny nose']})}",
    "drafted lists": f"Draft:\n{lines('{i}. vague {p}')}\n\nFinal:\n{lines('{i}. {p}')}",
    "nearly JSON": json.dumps(OBJECT).replace('", "deep', '" "deep').replace("]}", "],}"),
    "comments": json.dumps(OBJECT, indent=1).replace('skull",', 'skull", // wide'),
    "windows": lines("{i}. {p}").replace("\n", "\r\n"),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_every_usual_form_is_understood(case: str) -> None:
    answer = read(ANSWERS[case])
    assert isinstance(answer, ClassConcepts), answer
    assert list(answer.phrases) == DOG
    assert set(answer.look_alikes) <= set(ALIKE)
    if "harrier" in ANSWERS[case] and "harriers" not in ANSWERS[case]:
        assert "harrier" in answer.look_alikes


@pytest.mark.parametrize("mark", THOUGHTS)
@pytest.mark.parametrize("draft", [DRAFT, lines("{i}. vague {p}"), "no list at all"])
def test_thoughts_are_no_concepts(mark: str, draft: str) -> None:
    thought = THOUGHTS[mark].replace("{}", draft)
    for said in (json.dumps(OBJECT), lines("- {p}"), f"<answer>{json.dumps(OBJECT)}</answer>"):
        answer = read(f"{thought}{said}")
        assert isinstance(answer, ClassConcepts), answer
        assert list(answer.phrases) == DOG
    if not mark.endswith(("prompt", "marks")) and mark not in ("apriel", "two"):
        unclosed = THOUGHTS[mark].partition("{}")[0] + draft
        assert read(unclosed) == Refusal("the answer is empty"), "it was stopped while it still thought"


CLEANED = {
    "1. Long ears.": "long ears",
    "  - “Long ears”;": "long ears",
    "Beagle with long ears": "long ears",
    "the beagle has long ears": "long ears",
    "Beagle's long ears": "long ears",
    "Beagle: long ears": "long ears",
    "NASA-like logo": "NASA-like logo",
    "McNab stripe": "McNab stripe",
    "U-shaped collar": "u-shaped collar",
    "A long tail": "a long tail",
    "Élégantes oreilles": "élégantes oreilles",
    "長い垂れ耳。": "長い垂れ耳",
    "длинные уши": "длинные уши",
    "أذنان طويلتان": "أذنان طويلتان",
    "3 dark bands": "3 dark bands",
    "2.5 times as long as wide": "2.5 times as long as wide",
    "long\tears\nand  legs": "long ears and legs",
    "the dog's tail": "the dog's tail",
    "ears\u0000 with\ud800 folds": "ears with folds",
    "x" * 127: "x" * 127,
}


@pytest.mark.parametrize("said", CLEANED)
def test_phrases_are_brought_into_one_form(said: str) -> None:
    answer = read(json.dumps({"phrases": [said]}), wanted=1)
    assert isinstance(answer, ClassConcepts), answer
    assert answer.phrases == (CLEANED[said],)
    CLEANED[said].encode()


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("x" * 128, "1 of 128 characters or more"),
        ("x" * 50_000, "1 of 128 characters or more"),
        ("ears of a beagle", "1 naming the class"),
        ("Beagles' ears", "1 naming the class"),
        ("long ears", "1 repeated"),
        ("LONG EARS", "1 repeated"),
        ("...", "1 without words"),
        ("phrase 3", "1 without words"),
        ("12.", "1 without words"),
        ("3/4 = 0.75 x", "1 without words"),
        ("ea\ufffds of two colours", "1 without words"),
    ],
)
def test_what_is_dropped_is_told(said: str, why: str) -> None:
    answer = read(json.dumps({"phrases": ["long ears", said]}), wanted=2)
    assert isinstance(answer, Refusal)
    assert answer.phrases == ("long ears",)
    assert answer.reason == f"it gives 1 of 2 usable phrases ({why})"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "the answer is empty"),
        ("   \n ", "the answer is empty"),
        ("<think>first I", "the answer is empty"),
        ("I'm sorry, I can't.", "the model refuses \"I'm sorry, I can't.\""),
        ("I cannot help with:\n1. living beings\n2. private people", 'the model refuses "I cannot help with:'),
        ('{"look_alikes": ["harrier", "Engl', "there are no phrases in the answer"),
        ("<html><body>502 Bad Gateway</body></html>", "there are no phrases in the answer"),
        ("\x1b[2J\x1b]0;title\x07no", 'there are no phrases in the answer "[2J ]0;title no"'),
    ],
)
def test_an_answer_without_phrases_is_refused_with_the_reason(text: str, reason: str) -> None:
    answer = read(text)
    assert isinstance(answer, Refusal)
    assert answer.reason.startswith(reason)
    assert answer.phrases == ()


def test_a_second_answer_adds_to_the_first() -> None:
    first = read(json.dumps({"look_alikes": ["harrier"], "phrases": DOG[:3]}))
    assert isinstance(first, Refusal)
    second = read_answer(json.dumps({"look_alikes": ["harrier", "basset"], "phrases": DOG[2:]}), "beagle", 5, first)
    assert second == ClassConcepts(phrases=tuple(DOG), look_alikes=("harrier", "basset"))


# Properties

letters = st.text("abcdefghijklmnopqrstuvwxyzäéßñжд漢字", min_size=1, max_size=4)
words = st.one_of(letters, st.builds("{}{}{}".format, letters, st.sampled_from("'-"), letters))
clean = st.lists(words, min_size=2, max_size=6).map(" ".join).map(lambda p: read_one(p)).filter(bool)


def read_one(phrase: str) -> str:
    """The phrase in its final form, so that what comes out can be compared with what went in."""
    answer = read(json.dumps({"phrases": [phrase]}), 1)
    return answer.phrases[0] if isinstance(answer, ClassConcepts) else ""


lists = st.lists(clean, min_size=5, max_size=12, unique_by=str.casefold)
WRAPPINGS: dict[str, Callable[[list[str]], str]] = {
    "json": lambda p: json.dumps({"look_alikes": ALIKE, "phrases": p}),
    "unescaped": lambda p: json.dumps({"look_alikes": ALIKE, "phrases": p}, ensure_ascii=False, indent=1),
    "fence": lambda p: f"It's here:\n```json\n{json.dumps({'phrases': p})}\n```\nThat's all.",
    "list": lambda p: json.dumps(p, ensure_ascii=False),
    "tuple": lambda p: f"<answer>{('beagle', p)!r}</answer>",
    "numbered": lambda p: "Phrases:\n" + lines("{i}. {p}", p),
    "bullets": lambda p: lines("* {p}.", p) + "\n\nThese are the phrases.",
}


def check(answer: ClassConcepts | Refusal, name: str, wanted: int) -> None:
    """What must hold of any outcome."""
    if isinstance(answer, ClassConcepts):
        assert len(answer.phrases) == wanted
    else:
        assert answer.reason
        assert len(answer.phrases) < wanted
    assert len({phrase.casefold() for phrase in answer.phrases}) == len(answer.phrases)
    for phrase in answer.phrases:
        assert 0 < len(phrase) <= MOST_CHARACTERS
        assert phrase == " ".join(phrase.split())
        first = phrase.partition(" ")[0]
        capital = first[0].isupper() and first[0] != first[0].lower()  # mathematical capitals have no small letter
        assert not (capital and first[1:] == first[1:].lower())
    for text in (*answer.phrases, *answer.look_alikes):
        text.encode()
    assert name.casefold() not in {other.casefold() for other in answer.look_alikes}


@settings(deadline=None)
@given(text=st.text(), name=st.text(), wanted=st.integers(1, 12), cut_off=st.booleans())
def test_any_text_gives_an_entry_or_a_reason(text: str, name: str, wanted: int, cut_off: bool) -> None:
    check(read_answer(text, name, wanted, trouble="cut off" * cut_off), name, wanted)


pieces = st.sampled_from(
    [
        *"[](){}:,'\"\\\n“”«»「」`*#-",
        *("\\u0041", "\\ud83d", "1. ", "- ", " ", ": ", '": ["', '", "', "```json", "<think>", "</think>", "<answer>"),
        *("</answer>", "phrases", "look_alikes", "alike", "beagle with ", "Long ears", "a white tail"),
    ]
)


@settings(max_examples=300, deadline=None)
@given(parts=st.lists(st.one_of(pieces, st.text(max_size=5)), max_size=60), wanted=st.integers(1, 5))
def test_scrambled_answers_give_an_entry_or_a_reason(parts: list[str], wanted: int) -> None:
    check(read("".join(parts), wanted), "beagle", wanted)


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@settings(deadline=None)
@given(phrases=lists)
def test_what_was_meant_is_what_is_read(wrapping: str, phrases: list[str]) -> None:
    answer = read(WRAPPINGS[wrapping](phrases), len(phrases))
    assert answer.phrases == tuple(phrases)


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@settings(deadline=None)
@given(phrases=lists, share=st.floats(0, 1))
def test_a_cut_off_answer_gives_whole_phrases_only(wrapping: str, phrases: list[str], share: float) -> None:
    whole = WRAPPINGS[wrapping](phrases)
    answer = read(whole[: int(share * len(whole))], 50, trouble="cut off")
    assert answer.phrases == tuple(phrases[: len(answer.phrases)])


@settings(deadline=None)
@given(text=st.text(), phrases=lists)
def test_reading_an_entry_again_changes_nothing(text: str, phrases: list[str]) -> None:
    entry = read(json.dumps({"look_alikes": ALIKE, "phrases": phrases}), len(phrases))
    assert read(json.dumps(entry.model_dump()), len(phrases)) == entry  # type: ignore[union-attr]


HOSTILE = {
    "brackets": "[",
    "braces and keys": '{"a":',
    "double quotes": '"',
    "single quotes": "['",
    "escapes": '\\"',
    "unclosed strings": '["a\n',
    "quotes and blanks": "' ",
    "curly quotes": "“",
    "colons": "alike:",
    "numbering": "1. ",
    "numbered lines": "1. 1. 1. 1.\n",
    "bullets": "- a\n",
    "thoughts": "<think>",
    "answers": "<answer>",
    "words": "alike similar confus ",
    "blanks": " ",
    "one letter": "x",
    "capitals": "[\"A\", ",
}  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE)
def test_garbage_costs_no_more_than_its_length(piece: str) -> None:
    """Four times as much takes about four times as long on any machine; at a quadratic cost, sixteen times."""

    def seconds(count: int) -> float:
        begun = time.process_time()
        check(read('[" ' + HOSTILE[piece] * (count // len(HOSTILE[piece]))), "beagle", 5)
        return time.process_time() - begun

    some, many = seconds(100_000), seconds(400_000)
    assert many < 1 or many < 9 * some


# Prompts


@pytest.mark.parametrize("name", PROMPTS)
def test_a_prompt_states_every_rule_and_its_own_form(name: str) -> None:
    prompt = PROMPTS[name]
    (message,) = prompt.messages("fried {rice}", 10, ["risotto"], "food from above")
    said = message["content"]
    for part in ("fried {rice}", "risotto", "food from above", "10 phrases", "under 128 characters", "lower case"):
        assert part in said
    assert json.dumps(prompt.form) in said
    assert prompt.schema["required"] == list(prompt.form)
    assert ("look_alikes" in prompt.form) == (name == "distinctive")


def test_a_model_that_echoes_the_form_gives_no_phrases() -> None:
    for prompt in PROMPTS.values():
        answer = read(json.dumps(prompt.form))
        assert isinstance(answer, Refusal)
        assert answer.phrases == ()
        assert answer.look_alikes == ()


def test_prompts_are_told_apart_by_their_digest() -> None:
    assert len({prompt.sha256 for prompt in PROMPTS.values()}) == len(PROMPTS)
    assert again("it is empty", 3, ["long ears"])["content"].count("long ears") == 1
