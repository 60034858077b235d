"""Retrieval against a real server process over HTTP: what a flaky, odd or hostile server may do to a user's bank."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from server import phrases
from typer.testing import CliRunner

from concord.cli.commands import app
from concord.concepts import load_bank

KEY = "sk-proj-Zq83hTnotForAnyEyes9182"
BASIC = base64.b64encode(b"someone:S3cretWord").decode()
NAMES = ["beagle", "boxer", "collie", "dhole"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "NO_PROXY": "*", "OPENAI_API_KEY": KEY}


@dataclass
class Running:
    """A server process, its address and what it was asked."""

    url: str
    log: Path

    @property
    def requests(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []

    @property
    def counts(self) -> Counter[str]:
        return Counter(request["class"] for request in self.requests)


Start = Callable[..., Running]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with contextlib.ExitStack() as stack:

        def begin(classes: dict[str, list[str]] | None = None, **plan: Any) -> Running:
            folder = tmp_path / "server"
            folder.mkdir(exist_ok=True)
            (folder / "plan.json").write_text(json.dumps({"classes": classes or {}, **plan}))
            command = [sys.executable, str(Path(__file__).with_name("server.py")), "plan.json", "log.jsonl"]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder)
            stack.callback(process.wait)
            stack.callback(process.kill)
            assert process.stdout is not None
            return Running(f"http://127.0.0.1:{int(process.stdout.readline())}/v1", folder / "log.jsonl")

        yield begin


@pytest.fixture
def names(tmp_path: Path) -> Path:
    (tmp_path / "classes.txt").write_text("\n".join(NAMES) + "\n")
    return tmp_path / "classes.txt"


def arguments(server: Running, names: Path, *more: object) -> list[str]:
    bank = names.with_name("bank.json")
    fixed = ["concepts", "retrieve", names, "--base-url", server.url, "--model", "m", "--out", bank, "--backoff", 0.01]
    return [str(argument) for argument in [*fixed, *more]]


def run(server: Running, names: Path, *more: object, **environment: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(
        app, arguments(server, names, *more), env={"NO_PROXY": "*", "OPENAI_API_KEY": KEY, **environment}
    )
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def bank_of(names: Path) -> dict[str, list[str]]:
    bank = load_bank(str(names.with_name("bank.json")))
    return {name: list(concepts.phrases) for name, concepts in bank.classes.items()}


WHOLE = {name: phrases(name) for name in NAMES}


@pytest.mark.parametrize("stream", ["--stream", "--no-stream"])
def test_every_class_gets_its_phrases_and_the_bank_says_where_from(start: Start, names: Path, stream: str) -> None:
    server = start()
    code, said, error = run(server, names, stream, "--about", "dogs at shows", "--temperature", "0.5")
    assert (code, error) == (0, "")
    assert bank_of(names) == WHOLE
    assert list(bank_of(names)) == NAMES, "the file keeps the order of the source"
    bank = load_bank(str(names.with_name("bank.json")))
    assert bank.classes["beagle"].look_alikes == ("English foxhound", "harrier")
    assert bank.provenance["model"] == "m"
    assert bank.provenance["server"] == server.url
    assert bank.provenance["prompt"] == "distinctive"
    assert bank.provenance["about"] == "dogs at shows"
    assert bank.provenance["temperature"] == "0.5"
    assert {"prompt_sha256", "date"} <= set(bank.provenance)
    assert server.counts == dict.fromkeys(NAMES, 1)
    for request in server.requests:
        assert request["stream"] is (stream == "--stream")
        assert request["format"] == "json_schema"
        assert request["temperature"] == 0.5
        prompt = request["messages"][0]["content"]
        assert "dogs at shows" in prompt
        assert all(name in prompt for name in NAMES), "look-alikes are to be found among the other classes"
    assert "4 classes" in said


PASSING = {
    "rate limit": "status:429",
    "server error": "status:500",
    "overload": "status:503",
    "time-out": "slow:3",
    "not JSON": "wrong:{'no json",
    "JSON of another kind": 'wrong:{"detail": "ok"}',
    "a bare number": "wrong:5",
    "no choices": 'wrong:{"choices": null}',
    "an error with status 200": 'wrong:{"error": {"message": "overloaded"}}',
    "a page instead": "garbage",
    "a lost connection": "drop",
    "trickling": "trickle:3",
}


@pytest.mark.parametrize("stream", ["--stream", "--no-stream"])
@pytest.mark.parametrize("trouble", list(PASSING))
def test_what_may_pass_is_tried_again(start: Start, names: Path, trouble: str, stream: str) -> None:
    server = start({"boxer": [PASSING[trouble], "ok"]})
    code, _, error = run(server, names, stream, "--timeout", 0.5 if "slow" in PASSING[trouble] else 1)
    assert (code, error) == (0, "")
    assert bank_of(names) == WHOLE
    assert server.counts["boxer"] in (2, 3), "a stream without events is also asked for without streaming"


USABLE_IN_THE_END = {
    "free text": ["free"],
    "fenced": ["fence"],
    "half": ["half", "more"],
    "seven": ["few:7", "more"],
    "prose": ["prose", "ok"],
    "nothing": ["silence", "ok"],
    "prose twice": ["prose", "prose", "free"],
}


@pytest.mark.parametrize("stream", ["--stream", "--no-stream"])
@pytest.mark.parametrize("case", list(USABLE_IN_THE_END))
def test_what_is_unusable_is_asked_for_again(start: Start, names: Path, case: str, stream: str) -> None:
    plan = USABLE_IN_THE_END[case]
    server = start({"boxer": plan})
    code, _, error = run(server, names, stream)
    assert (code, error) == (0, "")
    assert bank_of(names) == WHOLE
    assert server.counts["boxer"] == len(plan)


def test_the_second_request_says_what_was_wrong_and_keeps_what_was_right(start: Start, names: Path) -> None:
    server = start({"boxer": ["few:7", "more"]})
    assert run(server, names)[0] == 0
    first, second = (request["messages"] for request in server.requests if request["class"] == "boxer")
    assert second[: len(first)] == first
    assert second[-2]["role"] == "assistant"
    assert "7 of 10" in second[-1]["content"]
    assert "Write 3 more" in second[-1]["content"]
    assert phrases("boxer")[6] in second[-1]["content"]


def test_classes_that_cannot_be_completed_are_named_and_not_in_the_bank(start: Start, names: Path) -> None:
    server = start({"boxer": ["few:7"], "dhole": ["status:500"], "collie": ["status:400"]})
    code, _, error = run(server, names, "--retries", 2, "--attempts", 3)
    assert code == 2
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert '3 of 4 classes lack phrases: "boxer" (it gives 7 of 10 usable phrases' in error
    assert '"dhole" (the server says 500: not now)' in error
    assert '"collie" (the server says 400: not now)' in error
    assert bank_of(names) == {"beagle": phrases("beagle")}
    assert server.counts == {"beagle": 1, "boxer": 3, "dhole": 3, "collie": 1}


def test_a_later_call_asks_only_for_what_is_missing(start: Start, names: Path, tmp_path: Path) -> None:
    server = start({"boxer": ["prose", "ok"]})
    assert run(server, names, "--attempts", 1)[0] == 2
    code, said, _ = run(server, names)
    assert code == 0
    assert "3 of 4 classes are there already" in said
    assert bank_of(names) == WHOLE
    assert server.counts == {"beagle": 1, "boxer": 2, "collie": 1, "dhole": 1}
    assert run(server, names)[0] == 0
    assert sum(server.counts.values()) == 5, "a complete bank needs no request"
    assert run(server, names, "--phrases", 11)[0] == 2, "ten phrases are too few now"
    assert bank_of(names) == WHOLE, "and they stay until there are more"


def test_retry_after_is_obeyed(start: Start, names: Path) -> None:
    server = start({"boxer": ["status:429:1", "ok"]})
    assert run(server, names)[0] == 0
    first, second = (request["time"] for request in server.requests if request["class"] == "boxer")
    assert second - first >= 1


def test_a_server_that_wants_an_hour_of_rest_is_not_waited_for(start: Start, names: Path) -> None:
    server = start({"boxer": ["status:429:3600"]})
    code, _, error = run(server, names)
    assert code == 2
    assert "wants 3600 s of rest" in error
    assert server.counts["boxer"] == 1


@pytest.mark.parametrize(
    ("refuses", "used"), [(["json_schema"], "json_object"), (["json_schema", "json_object"], ""), (["stream"], None)]
)
def test_a_form_that_the_server_refuses_is_asked_for_once(
    start: Start, names: Path, refuses: list[str], used: str | None
) -> None:
    server = start({"boxer": ["free"]}, refuses=refuses)
    code, _, error = run(server, names, "--concurrency", 1)
    assert (code, error) == (0, "")
    assert bank_of(names) == WHOLE
    assert len(server.requests) == len(NAMES) + len(refuses), "what the server refused is remembered"
    if used is not None:
        assert {request["format"] for request in server.requests[len(refuses) :]} == {used}
    else:
        assert not any(request["stream"] for request in server.requests[1:])


def test_a_server_that_ignores_streaming_is_understood(start: Start, names: Path) -> None:
    server = start(streams=False)
    assert run(server, names, "--concurrency", 1)[0] == 0
    assert bank_of(names) == WHOLE
    assert len(server.requests) == len(NAMES) + 1


def test_requests_are_concurrent_but_bounded(start: Start, tmp_path: Path) -> None:
    names = tmp_path / "classes.txt"
    names.write_text("\n".join(f"class {chr(97 + i)}" for i in range(8)))
    server = start(pause=0.3)
    begun = time.monotonic()
    assert run(server, names, "--concurrency", 4)[0] == 0
    assert time.monotonic() - begun < 8 * 0.3
    times = sorted(request["time"] for request in server.requests)
    assert times[4] - times[0] >= 0.25, "the fifth request waits for one of four to end"


def test_a_refused_key_or_a_dead_server_ends_the_run_at_once(start: Start, tmp_path: Path) -> None:
    names = tmp_path / "classes.txt"
    names.write_text("\n".join(f"class {i}" for i in range(40)))
    server = start({f"class {i}": ["status:401" if i else "ok"] for i in range(40)})
    code, _, error = run(server, names, "--concurrency", 1)
    assert code == 2
    assert "the server says 401" in error
    assert "39 of 40 classes lack phrases" in error
    assert "bank.json holds the other 1" in error
    assert len(server.requests) == 2


OWN_REASONS = {
    "end:length": (1, "it was cut off at its limit of tokens: raise --max-tokens"),
    "thoughts:length": (1, "it was cut off at its limit of tokens while the model still thought: raise --max-tokens"),
    "thoughts": (1, "all of it came as reasoning, none as an answer: turn off thinking, or"),
    "end:content_filter": (1, "the server's content filter stopped it"),
    "refusal": (2, "the model refuses: I am not able to describe this."),
    "text:I'm sorry, but I cannot help with:\n1. living beings\n2. private people": (
        2,
        "the model refuses \"I'm sorry",
    ),
    f"text:{json.dumps({'phrases': ['长而柔软的耳朵', '粗糙的棕色皮毛'] * 5}, ensure_ascii=False)}": (
        2,
        "it gives 0 of 10 usable phrases (10 in another language)",
    ),
    "text:1. longues oreilles et truffe\n2. queue avec du blanc\n3. robe de trois tons": (
        2,
        "it gives 0 of 10 usable phrases (3 in another language)",
    ),
}


@pytest.mark.parametrize("stream", ["--stream", "--no-stream"])
@pytest.mark.parametrize("behaviour", OWN_REASONS)
def test_the_reason_reaches_the_user_and_what_would_end_alike_is_paid_once(
    start: Start, names: Path, behaviour: str, stream: str
) -> None:
    server = start({"boxer": [behaviour]})
    asked, reason = OWN_REASONS[behaviour]
    code, _, error = run(server, names, stream, "--attempts", 2)
    assert code == 2
    told = error.partition('"boxer" (')[2]
    assert reason in told, error
    assert server.counts["boxer"] == asked
    assert bank_of(names) == {name: WHOLE[name] for name in NAMES if name != "boxer"}


def test_a_language_that_was_asked_for_is_no_fault(start: Start, tmp_path: Path) -> None:
    names = tmp_path / "classes.txt"
    names.write_text("柴犬\n", encoding="utf-8")
    said = [f"{word}な耳と{word}の尾" for word in "一二三四五六七八九十"]
    server = start({"柴犬": [f"text:{json.dumps({'look_alikes': ['狼'], 'phrases': said})}"]})
    assert run(server, names)[0] == 0
    assert bank_of(names) == {"柴犬": said}


def test_a_limit_of_tokens_is_sent_by_the_name_that_the_server_takes(start: Start, names: Path) -> None:
    server = start(refuses=["max_tokens"])
    assert run(server, names, "--max-tokens", 900, "--concurrency", 1)[0] == 0
    sent = [{key: value for key, value in one.items() if key.startswith("max_")} for one in server.requests]
    assert sent == [{"max_tokens": 900}, *[{"max_completion_tokens": 900}] * len(NAMES)]


def test_after_many_classes_in_vain_no_more_is_paid(start: Start, tmp_path: Path) -> None:
    names = tmp_path / "classes.txt"
    every = [f"class {chr(97 + i)}" for i in range(20)]
    names.write_text("\n".join(every))
    server = start({name: ["thoughts:length"] for name in every})
    code, _, error = run(server, names, "--concurrency", 1)
    assert code == 2
    assert "8 classes in a row got no phrase" in error
    assert "12 classes not asked" in error
    assert len(server.requests) == 8


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("ALL_PROXY", "socks5://user:S3cretWord@127.0.0.1:9", "pip install socksio"),
        ("ALL_PROXY", "socks://127.0.0.1:9", "no connection can be made"),
        ("HTTP_PROXY", "http://127.0.0.1:9", "no server answers at http://models.invalid/v1"),
        ("SSL_CERT_FILE", "/nowhere.pem", "no connection can be made"),
    ],
)
def test_a_variable_that_leads_nowhere_is_named(
    start: Start, names: Path, variable: str, value: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    away = Running("http://models.invalid/v1", names)
    code, _, error = run(away, names, **{variable: value, "NO_PROXY": ""})
    assert code == 2
    assert error.count("\n") == 1
    assert told in error
    assert f"{variable}=" in error
    assert "S3cretWord" not in error
    server = start()
    assert run(server, names, **{variable: value, "NO_PROXY": ""})[0] == 0, "no proxy leads to this machine"


def test_where_no_server_is_the_run_ends_at_once_and_says_it_once(tmp_path: Path) -> None:
    names = tmp_path / "classes.txt"
    names.write_text("\n".join(f"class {i}" for i in range(40)))
    begun = time.monotonic()
    code, _, error = run(Running("http://127.0.0.1:9/v1", names), names, "--retries", 20)
    assert time.monotonic() - begun < 5
    assert code == 2
    assert error.startswith("error: no server answers at http://127.0.0.1:9/v1: ")
    assert error.count("127.0.0.1:9") == 1
    assert "class 1" not in error


def test_killed_in_the_middle_nothing_is_lost_or_asked_for_again(start: Start, tmp_path: Path) -> None:
    names = tmp_path / "classes.txt"
    every = [f"class {chr(97 + i)}" for i in range(12)]
    names.write_text("\n".join(every))
    server = start(pause=0.15)
    command = [sys.executable, "-m", "concord.cli", *arguments(server, names, "--concurrency", 2)]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    bank = tmp_path / "bank.json"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (bank.exists() and len(bank_of(names)) >= 4):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    kept = bank_of(names)
    assert 4 <= len(kept) < 12
    before = server.counts
    assert run(server, names)[0] == 0
    assert bank_of(names) == {name: phrases(name) for name in every}
    for name in kept:
        assert server.counts[name] == before[name] == 1, name


@pytest.mark.parametrize(
    "change", [["--model", "other"], ["--prompt", "descriptive"], ["--about", "toys"], ["--temperature", "1"]]
)
def test_a_bank_is_not_mixed_from_two_ways_of_asking(start: Start, names: Path, change: list[str]) -> None:
    server = start()
    assert run(server, names)[0] == 0
    code, _, error = run(server, names, *change)
    assert code == 2
    assert f'{change[0][2:]} "' in error
    assert "--force" in error
    assert len(server.requests) == 4
    assert run(server, names, *change, "--force")[0] == 0
    assert load_bank(str(names.with_name("bank.json"))).provenance[change[0][2:]] == change[1]
    assert len(server.requests) == 8


def test_a_file_that_is_no_bank_is_never_overwritten(start: Start, names: Path) -> None:
    names.with_name("bank.json").write_text("my notes")
    code, _, error = run(start(), names, "--force")
    assert code == 2
    assert "is not JSON" in error
    assert names.with_name("bank.json").read_text() == "my notes"


ECHOES = ["echo:400", "echo:401", "echo:404", "echo:429", "echo:500", "echo:200", "echo:late"]


@pytest.mark.parametrize(
    ("stream", "user"), [("--stream", ""), ("--no-stream", ""), ("--stream", "someone:S3cretWord@")]
)
def test_the_key_reaches_no_file_no_log_and_no_message(start: Start, names: Path, stream: str, user: str) -> None:
    wrong = json.dumps({"error": {"message": f"overloaded for {KEY}"}})
    server = start({"beagle": ["echo:400"], "boxer": ["echo:500"], "collie": ["echo:200"], "dhole": [f"wrong:{wrong}"]})
    host = server.url.removeprefix("http://")
    told = Running(f"http://{user}{host}?token=Qu3ryTok3n", server.log)
    environment = {name: value for name, value in ENVIRONMENT.items() if name != "CONCORD_DEBUG"}
    command = [sys.executable, "-m", "concord.cli", *arguments(told, names, stream, "--retries", "1")]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=names.parent)
    assert result.returncode == 2
    assert "Incorrect API key provided: " in result.stderr, "the error was told"
    assert "***" in result.stderr
    seen = {"stdout": result.stdout, "stderr": result.stderr}
    ours = (path for path in names.parent.rglob("*") if path.is_file() and "server" not in path.parts)
    seen |= {str(path): path.read_bytes().decode(errors="replace") for path in ours}
    assert str(names.with_name("bank.json")) in seen
    for place, text in seen.items():
        for secret in (KEY, KEY[8:], "S3cretWord", BASIC, "Qu3ryTok3n"):
            assert secret.casefold() not in text.casefold(), place


@pytest.mark.parametrize("behaviour", ECHOES)
def test_no_echo_of_the_key_comes_through(start: Start, names: Path, behaviour: str) -> None:
    server = start({name: [behaviour] for name in NAMES})
    key = "gateway_Zq83hTnotForAnyEyes9182"  # not of a form by which a key could be told without knowing it
    _, said, error = run(server, names, "--retries", 0, OPENAI_API_KEY=key)
    bank = names.with_name("bank.json")
    for text in (said, error, bank.read_text() if bank.exists() else ""):
        assert key[:10].lower() not in text.lower()


def test_the_key_comes_from_the_variable_that_is_named(start: Start, names: Path) -> None:
    server = start({name: ["echo:400"] for name in NAMES})
    other = "gateway-key-000111222"
    _, _, error = run(server, names, "--key-env", "MY_GATEWAY", "--retries", 0, MY_GATEWAY=other)
    assert other not in error
    assert "Incorrect API key provided: ***" in error
    code, _, error = run(server, names, "--key-env", "NOT_SET")
    assert code == 2
    assert "NOT_SET" in error


def test_settings_that_are_missing_are_said(names: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "OPENAI_MODEL"):
        monkeypatch.delenv(variable, raising=False)
    say = lambda *more: CliRunner().invoke(app, ["concepts", "retrieve", str(names), *more]).stderr  # noqa: E731
    assert "--model" in say()
    assert "OPENAI_API_KEY" in say("--model", "m")
    assert "is no URL" in say("--model", "m", "--base-url", "localhost")
    assert 'did you mean "distinctive"?' in say("--model", "m", "--base-url", "http://x/v1", "--prompt", "distinctiv")
    assert (
        "no class names at"
        in CliRunner()
        .invoke(app, ["concepts", "retrieve", "nowhere", "--model", "m", "--base-url", "http://x/v1"])
        .stderr
    )


def test_without_the_extra_one_line_says_what_to_install(names: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    code, _, error = run(Running("http://127.0.0.1:9/v1", names), names)
    assert code == 2
    assert "pip install 'concord-distill[llm]'" in error
