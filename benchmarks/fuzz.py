"""Change what comes from outside at random, 500 times, and count what a user must never see.

    python benchmarks/fuzz.py             # 100 mutations of each kind
    python benchmarks/fuzz.py --each 10 --kinds manifest files
    python benchmarks/fuzz.py --kinds banks --only 17   # one of them

Kinds: `overrides` (key=value that reach the execution of distill and evaluate), `recipes`, `banks`, `manifest` and
`files` (recipe, environment, results and evaluation of a finished and evaluated set, which is then resumed, evaluated,
reported, compared or exported). Each is seeded by its kind and number, and is one command in this process.

Counted are tracebacks (any exception but the end of a command), hangs (over `--limit` seconds), and losses: a file
outside the command's own directory that appears, changes or goes, or an image of the set that is there no more.
Writes benchmarks/results/fuzz.json.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from PIL import Image
from pydantic import BaseModel
from record import RESULTS, head, write
from typer.testing import CliRunner

from concord.cli.commands import app
from concord.errors import ConcordError
from concord.evaluation.settings import read_settings
from concord.recipe import load
from concord.settings import keys

NASTY = [
    *("", " ", "0", "1", "-1", "3", "0.5", "1e-320", "1e400", "nan", "-inf", "true", "no", "null", "~", "auto", "none"),
    *("[]", "[0]", "[1, 2]", "[a, a]", "{}", "{a: 1}", "{a: 1, a: 2}", "[[[[", "2024-13-45", "0x_", "1_0", "!!float x"),
    *(
        "reef",
        "../up",
        "/nowhere",
        "a/b",
        "x" * 5000,
        "\x00",
        "\x07",
        "\udcff",
        "日本",
        "{class} {concept}",
        "%s",
        "=",
        "*a",
    ),
    *(
        "99999999999999999999",
        "cuda",
        "cuda:9",
        "float16",
        "random",
        "dit",
        "rded",
        "hard",
        "convnet-2",
        "dog",
        "cat,dog",
    ),
]
"""Values that are right for some keys, and wrong for most."""
VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    1.5,
    10**30,
    float("inf"),
    "",
    "x",
    "../../up.png",
    "\x00",
    "\ud800",
    [],
    [[]],
    {},
    {"a": 1},
]
SET = {"data": "data", "ipc": "2", "size": "32", "workers": "1"}
DRAWN = {"ipc": "1", "classes": "[cavern goby, coral perch]", "pipeline.steps": "2", "workers": "1", "batch_size": "1"}
STUDENT = ["student=convnet-2", "width=8", "protocol=hard", "epochs=1", "seeds=1", "size=32", "workers=1"]


class Late(BaseException):
    """A command took too long."""


class Sandbox:
    """A directory with photographs, a finished and evaluated set, and a place where nothing may change."""

    def __init__(self, root: Path, limit: int) -> None:
        self.root, self.limit = root, limit
        for name, shade in (("cat", 40), ("dog", 160)):
            for i in range(4):
                path = root / "data" / name / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.effect_noise((32, 32), 20 + shade + i).convert("RGB").save(path)
        (root / "mine").mkdir()
        (root / "mine" / "thesis.txt").write_text("three years of work\n")
        self.bank = {"schema": 1, "name": "b", "provenance": {"source": "x"}, "classes": {}}
        for name in ("cat", "dog"):
            phrases = [
                f"{word} of a {name[::-1]} kind"
                for word in ("ears", "tail", "coat", "nose", "eyes", "legs", "back", "neck", "paws", "chin")
            ]
            self.bank["classes"][name] = {"phrases": phrases, "look_alikes": ["fox"]}  # type: ignore[index]
        os.chdir(root)
        for words in (
            ["distill", "photos", *(f"{k}={v}" for k, v in SET.items()), "--out", "whole", "-q"],
            ["evaluate", "whole", "--test", "data", *STUDENT, "-q"],
        ):
            result = CliRunner().invoke(app, words)
            assert result.exit_code == 0, (words, result.output, result.exception)

    def files(self) -> dict[str, tuple[int, int]]:
        """What lies outside of the case's own directory."""
        found = (p for p in self.root.rglob("*") if p.is_file() and self.root / "case" not in p.parents)
        return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in found}

    def images(self) -> set[str]:
        return {str(p) for p in (self.root / "case").rglob("images/*/*.png")}

    def run(self, words: list[str]) -> tuple[str, str]:
        """(outcome, what is to be told of it) of one command."""
        before, had = self.files(), self.images()
        signal.alarm(self.limit)
        try:
            result = CliRunner().invoke(app, words)
        except Late:
            return "hang", f"over {self.limit} s"
        finally:
            signal.alarm(0)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            told = "".join(traceback.format_exception(result.exception))
            return ("hang" if isinstance(result.exception, Late) else "traceback"), told
        if (after := self.files()) != before:
            odd = [p for p in before | after if before.get(p) != after.get(p)]
            return "loss", f"outside: {odd[:3]}"
        if lost := had - self.images():
            return "loss", f"images: {sorted(lost)[:3]}"
        lines = [line for line in result.stderr.splitlines() if line.startswith("error:")]
        if result.exit_code == 2 and len(lines) != 1 and "Usage:" not in result.stderr:
            return "traceback", f"exit code 2 without its line: {result.output[-300:]}"
        return {0: "done", 1: "faults found"}.get(result.exit_code, "refused"), " ".join(lines)


def mutated_text(text: str, draw: random.Random) -> str:
    """A text with a few lines doubled, lost, moved or with other values, or with other characters."""
    lines = text.splitlines()
    for _ in range(draw.randint(1, 3)):
        i = draw.randrange(len(lines) or 1)
        match draw.randrange(7) if lines else 6:
            case 0:
                lines.insert(draw.randrange(len(lines) + 1), lines[i])
            case 1:
                del lines[i]
            case 2:
                lines[i] = " " * draw.randrange(4) + lines[i].lstrip()
            case 3 | 4:
                lines[i] = lines[i].partition(":")[0] + ": " + draw.choice(NASTY)
            case 5:
                lines[i] = lines[i][: draw.randrange(len(lines[i]) + 1)]
            case 6:
                lines.insert(
                    i, draw.choice(["&a [*a]", "- x", "? [a]", "<<: *x", "\t", "}", "[" * 2000, "%YAML 9", "---"])
                )
    return "\n".join(lines) + "\n"


def mutated_json(value: Any, draw: random.Random) -> Any:
    """A JSON value of which one part somewhere is another, gone, or there twice."""
    if isinstance(value, dict) and value and draw.random() < 0.85:
        key = draw.choice(list(value))
        if draw.random() < 0.1:
            return {k: v for k, v in value.items() if k != key}
        if draw.random() < 0.1:
            return {(draw.choice(["", "x", "\x00", "日本"]) if k == key else k): v for k, v in value.items()}
        return {**value, key: mutated_json(value[key], draw)}
    if isinstance(value, list) and value and draw.random() < 0.85:
        i = draw.randrange(len(value))
        kept = [mutated_json(v, draw) if j == i else v for j, v in enumerate(value)]
        return kept + kept[:1] if draw.random() < 0.1 else kept
    return draw.choice(VALUES)


def mutated_bytes(data: bytes, draw: random.Random) -> bytes:
    """Bytes cut off, doubled, or with some that are others."""
    i, j = sorted(draw.randrange(len(data) + 1) for _ in range(2))
    some = bytes(draw.randrange(256) for _ in range(draw.randint(1, 8)))
    return draw.choice([data[:i], data[:i] + data[j:], data[:j] + data[i:], data[:i] + some + data[i:], b"", some])


def mutated_file(path: Path, draw: random.Random) -> None:
    """Change a file of JSON, JSON lines or YAML: in what it says, or in its bytes."""
    data = path.read_bytes()
    if draw.random() < 0.25:
        return void(path.write_bytes(mutated_bytes(data, draw)))
    if path.suffix == ".yaml":
        return void(path.write_bytes(mutated_text(data.decode(), draw).encode(errors="surrogatepass")))
    if path.suffix == ".json":
        return void(path.write_text(json.dumps(mutated_json(json.loads(data), draw))))
    rows = [json.loads(line) for line in data.splitlines()]
    rows = mutated_json(rows, draw)
    rows = rows if isinstance(rows, list) else [rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def void(_: object) -> None: ...


def on_a_set(draw: random.Random) -> list[str]:
    """A command on the set in `case/set`."""
    return draw.choice(
        [
            ["distill", "photos", *(f"{k}={v}" for k, v in SET.items()), "--out", "case/set", "-q"],
            ["evaluate", "case/set", "--test", "data", *STUDENT, "-q"],
            ["report", "case/set"],
            ["compare", "case/set", "whole"],
            ["export", "case/set", "--out", "case/export", "--format", draw.choice(["folder", "webdataset", "rded"])],
            ["distill", "case/set", "--out", "case/set", "-q"],
        ]
    )


def likely(recipe: BaseModel, key: str, draw: random.Random) -> str:
    """A value of the kind that a key has now, near the bounds of what it may be."""
    present: Any = recipe.model_dump(mode="json", by_alias=True)
    for name in key.split("."):
        present = present.get(name) if isinstance(present, dict) else None
    match present:
        case bool():
            return draw.choice(["true", "false"])
        case int() | float():
            return str(draw.choice([0, 1, 2, 3, 5, 64, 0.1, 0.5, present, -present]))
        case list() if present:
            return json.dumps(draw.choice([present[:1], present[::-1], present * 2]))
    return draw.choice(
        ["reef", "cat", "[cat]", "{cat: tabby}", "auto", "png", "jpg", "skip", "cpu", "data", str(present)]
    )


def overrides(box: Sandbox, draw: random.Random) -> list[str]:
    """A command whose settings are taken, so that they act."""
    while True:
        shutil.rmtree(box.root / "case" / "set", ignore_errors=True)
        words = drawn_overrides(box, draw)
        texts = [word for word in words[2:-1] if "=" in word]
        with suppress(ConcordError):
            read_settings(texts) if words[0] == "evaluate" else load(words[1], texts)
            return words


def drawn_overrides(box: Sandbox, draw: random.Random) -> list[str]:
    case = box.root / "case"
    value, method = draw.choice(NASTY), draw.choice(["random", "k_center", "herding", "full"])
    if draw.random() < 0.25:
        shutil.copytree(box.root / "whole", case / "set")
        key = draw.choice(
            [
                "student",
                "width",
                "depth",
                "protocol",
                "epochs",
                "seeds",
                "size",
                "batch",
                "lr",
                "norm",
                "pool",
                "metrics",
                "classes",
                "ipc",
                "dtype",
            ]
        )
        return ["evaluate", "case/set", "--test", "data", *STUDENT, f"{key}={value}", "-q"]
    if draw.random() < 0.15:
        recipe = load("reef")
        key = draw.choice([key for key in keys(type(recipe)) if key not in ("data", "ipc")])
        chosen = {**DRAWN, key: value if draw.random() < 0.3 else likely(recipe, key, draw)}
        return ["distill", "reef", *(f"{k}={v}" for k, v in chosen.items()), "--out", "case/set", "-q"]
    recipe = load("photos", ["data=data", f"method={method}"])
    key = draw.choice(keys(type(recipe)))
    chosen = {**SET, "method": method, key: value if draw.random() < 0.4 else likely(recipe, key, draw)}
    chosen |= {"features": "pixels"} if method in ("k_center", "herding") and "features" not in chosen else {}
    return ["distill", "photos", *(f"{k}={v}" for k, v in chosen.items()), "--out", "case/set", "-q"]


def recipes(box: Sandbox, draw: random.Random) -> list[str]:
    name = draw.choice(["photos", "custom", "reef"])
    from concord.recipe import to_yaml

    text = to_yaml(
        load(name, ["ipc=1", *(["data=data"] if name != "reef" else []), *(["size=32"] if name == "photos" else [])])
    )
    (box.root / "case" / "r.yaml").write_bytes(mutated_text(text, draw).encode(errors="surrogatepass"))
    return ["distill", "case/r.yaml", "--out", "case/set", *(["-q"] if name == "photos" else ["--dry-run"])]


def banks(box: Sandbox, draw: random.Random) -> list[str]:
    path = box.root / "case" / "bank.json"
    path.write_text(json.dumps(box.bank))
    mutated_file(path, draw)
    return draw.choice(
        [
            ["concepts", "lint", "case/bank.json", *(["--json"] if draw.random() < 0.5 else [])],
            ["concepts", "show", "cat", "--bank", "case/bank.json"],
            ["concepts", "compare", "case/bank.json", "cifar-10"],
            ["concepts", "import", "case/bank.json", "--out", "case/other.json"],
            ["concepts", "select", "case/bank.json", "data", "--encoder", "reef:clip", "--out", "case/c.json"],
            ["init", "data", "--bank", "case/bank.json", "--out", "case/r.yaml"],
            ["distill", "custom", "data=data", "concepts.bank=case/bank.json", "--out", "case/set", "--dry-run"],
        ]
    )


def manifest(box: Sandbox, draw: random.Random) -> list[str]:
    shutil.copytree(box.root / "whole", box.root / "case" / "set")
    mutated_file(next((box.root / "case" / "set").rglob("*.jsonl")), draw)
    return on_a_set(draw)


def files(box: Sandbox, draw: random.Random) -> list[str]:
    shutil.copytree(box.root / "whole", box.root / "case" / "set")
    names = ["recipe.yaml", "environment.json", "results.json", "evaluation.json"]
    mutated_file(box.root / "case" / "set" / draw.choice(names), draw)
    return on_a_set(draw)


KINDS: dict[str, Callable[[Sandbox, random.Random], list[str]]] = {
    kind.__name__: kind for kind in (recipes, banks, manifest, files, overrides)
}


@contextmanager
def alarmed() -> Iterator[None]:
    def late(*_: object) -> None:
        raise Late

    before = signal.signal(signal.SIGALRM, late)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, before)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--each", type=int, default=100)
    options.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    options.add_argument("--first", type=int, default=0, help="number of the first mutation of each kind")
    options.add_argument("--only", type=int)
    options.add_argument("--verbose", action="store_true", help="say every outcome")
    options.add_argument("--limit", type=int, default=300, help="seconds for a command")
    options.add_argument("--out", type=Path, default=RESULTS / "fuzz.json")
    chosen = options.parse_args()
    chosen.out = chosen.out.absolute()
    counts: dict[str, Counter[str]] = {}
    found: list[dict[str, Any]] = []
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, alarmed():
        box = Sandbox(Path(folder).resolve(), chosen.limit)
        for kind in chosen.kinds:
            counts[kind] = Counter()
            for n in range(chosen.first, chosen.first + chosen.each) if chosen.only is None else [chosen.only]:
                shutil.rmtree(box.root / "case", ignore_errors=True)
                (box.root / "case").mkdir()
                words = KINDS[kind](box, random.Random(f"{kind} {n}"))
                outcome, told = box.run(words)
                counts[kind][outcome] += 1
                if outcome in ("traceback", "hang", "loss"):
                    found.append({"kind": kind, "n": n, "outcome": outcome, "command": words, "told": told[-600:]})
                    print(f"{kind} {n}: {outcome}: {' '.join(words)[:200]!r}\n{told[-600:]}", flush=True)
                elif chosen.only is not None or chosen.verbose:
                    print(f"{kind} {n}: {outcome}: {' '.join(words)[:200]!r} {told[:200]!r}")
            print(kind, dict(counts[kind]), file=sys.stderr, flush=True)
            if chosen.only is None:
                write(chosen.out, record(counts, found, begun))
        os.chdir("/")


def record(counts: dict[str, Counter[str]], found: list[dict[str, Any]], begun: float) -> dict[str, Any]:
    total = sum(counts.values(), Counter())
    figures: dict[str, Any] = {name: total[name] for name in ("traceback", "hang", "loss")}
    print({"mutations": total.total(), **figures}, flush=True)
    figures |= {"seconds": round(time.monotonic() - begun), "mutations": total.total()}
    return {**head(**figures), "counts": {kind: dict(c) for kind, c in counts.items()}, "found": found}


if __name__ == "__main__":
    main()
