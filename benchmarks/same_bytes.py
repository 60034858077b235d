"""Whether two checkouts do the same for a user: the same commands in each, all texts, exit codes and files compared.

    python benchmarks/same_bytes.py OLD NEW [--only PART ...] [--strict] [--cold] [--json FILE] [--keep DIR]

OLD and NEW are checkouts with a `.venv` each. Only the command line is used (the module `concord.cli` as a program, and
twice the console script); nothing else of the package is named, so that its modules may be moved at will. To start
fast, commands are forked from an interpreter that has imported the libraries; `--cold` starts a new one for each. Each
checkout works in a fresh directory of the same layout and length of name, with the same inputs, in the same small
environment (no GPU, no network, one thread, 120 columns, no colour, UTC); the two run side by side, a core each. Bytes
depend on processor and libraries, so no digest is stored: both run on the same machine, now.

Of each command its exit code, standard output and standard error are compared as text, and every file below what it
leaves: texts (JSON, YAML, HTML, Markdown, ...) after normalising, all others by their SHA-256 as they are. What is
normalised in texts, and nothing else:

- absolute paths of the working directory, of the checkout and of installed packages, by what they are;
- times and rates: a number before ``s``, ``min``, ``h``, ``images/s``, ``images a second`` or ``times A`` (how much
  longer B took), and the values of the JSON keys ``seconds``, ``seconds_per_image``, ``images_per_second``,
  ``date``, ``disk_free_bytes``,
  in JSON and where a page's figures name them as their source;
- the version of concord, and the free space of the disk;
- digests and sizes in ``checksums.json``: they are of files that are compared themselves;
- the frames of a traceback and the place in the source that a warning names; their last lines are compared.

After a command the same JSON keys in the files that it left are set to 1.5, so that what later commands make of times
(a page, a data card, columns as wide as their longest figure) has the same input in both and is compared in full.

The parts are `PARTS`; `--only` also runs those that a part needs, without comparing them. A difference in `help` is
shown but fails only with `--strict`: help may gain lines. `handover` goes on with what OLD left, in OLD and in NEW: a
set that was begun, an evaluation, stored labels and a teacher of OLD must serve NEW. Exit code 0: equal, 1: not.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

TEXTS = frozenset({".cls", ".csv", ".html", ".json", ".jsonl", ".md", ".txt", ".yaml"})
"""Suffixes of files that are normalised and, where they differ, shown."""
SHOWN_ENTRIES, SHOWN_LINES, SHOWN_COLUMNS = 6, 16, 200
"""What is shown of the differences in a part: entries, lines of each, characters of a line."""
LIMIT = 900
"""Seconds after which a command counts as hanging."""
NAMES = "old", "new"
"""The working directories; equally long, so that a path never changes how a text is laid out."""
INFORMATIVE = frozenset({"help"})

_KEYS = "seconds|seconds_per_image|images_per_second|date|disk_free_bytes"
_TIME_KEYS = rf'(\\?"(?:{_KEYS})\\?": ?)(?:-?\d[-+.\deE]*|\\?"[^"\\]*\\?")'
_SUMS = re.compile(r'("(?:of|bytes|sha256)": )(?:\d+|"\w*")')
_NUMBER = r"(?<![\w.])\d[\d ,]*(?:\.\d+)?(?:e[-+]?\d+)?"
_RULES = [
    (re.compile(_TIME_KEYS), r"\1<time>"),
    (re.compile(r'value="[^"]*"( data-from="[^"]*\bseconds\w*")'), r'value="<time>"\1'),
    (re.compile(rf"{_NUMBER} images(?:/s| a second)\b"), "<rate>"),
    (re.compile(rf"{_NUMBER} (?:h {_NUMBER} min|min {_NUMBER} s|s|min|h)\b"), "<time>"),
    (re.compile(r"<time> an image"), "<rate>"),  # the slow form of a pace
    (re.compile(rf"{_NUMBER} times A\b"), "<ratio> times A"),
    (re.compile(rf"{_NUMBER} [kMGT]B free"), "<space> free"),
    (re.compile(r"(Traceback \(most recent call last\):\n)(?:[ \t].*\n)+"), r"\1"),
    (re.compile(r"<checkout>/\S+\.py:\d+(: \w*Warning: .*)\n  .*"), r"<source>\1"),
    (re.compile(r"(?<![^\s\"'(=])/\S*/site-packages/"), "<packages>/"),
]


@dataclass(frozen=True)
class Step:
    """A command as a user gives it, without `concord`.

    leaves: files and directories whose contents are compared after it. before: changes the working directory first.
    locked: a directory that another process holds meanwhile. script: called by the console script, not the module.
    """

    command: str
    leaves: Sequence[str] = ()
    before: Callable[[Path], None] | None = None
    locked: str = ""
    script: bool = False


@dataclass(frozen=True)
class Part:
    """Commands that belong together. needs: the parts that leave what they use. inventory: compare all file names."""

    steps: Sequence[Step]
    needs: Sequence[str] = ()
    inventory: bool = False


Entries = dict[str, str]
"""What a part came to: a name -> a text, or ``sha256 ...``."""

SERVER = r"""
import importlib, json, os, runpy, signal, sys, time
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what a library says when it is imported is no answer
for name, wanted in json.loads(sys.argv[1]).items():
    try:
        module = importlib.import_module(name)
        for attribute in wanted:
            getattr(module, attribute)
    except Exception:
        pass
for line in os.fdopen(os.dup(0)):
    asked = json.loads(line)
    process = os.fork()
    if process == 0:
        answers.close()
        os.chdir(asked["directory"])
        nothing = os.open(os.devnull, os.O_RDONLY)
        places = [os.open(asked[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC) for name in ("out", "err")]
        for number, place in enumerate([nothing, *places]):
            os.dup2(place, number)
        if asked["program"]:
            os.execv(asked["program"][0], [*asked["program"], *asked["arguments"]])
        sys.argv = ["concord", *asked["arguments"]]
        runpy.run_module("concord.cli", run_name="__main__", alter_sys=True)
        sys.exit(0)
    end = time.monotonic() + asked["limit"]
    while not (ended := os.wait4(process, os.WNOHANG))[0]:
        if time.monotonic() > end:
            os.kill(process, signal.SIGKILL)
        time.sleep(0.01)
    used = ended[2].ru_utime + ended[2].ru_stime
    print(json.dumps({"code": os.waitstatus_to_exitcode(ended[1]), "cpu": used}), file=answers, flush=True)
"""
"""A process that has imported the libraries, and becomes the command line once for each command that it is sent."""
LIBRARIES = {
    "torch": ["_dynamo"],
    "torchvision.transforms.v2.functional": [],
    "timm": [],
    "transformers": ["CLIPModel", "CLIPTokenizerFast", "CLIPImageProcessor"],
    "diffusers": ["DiTPipeline", "AutoencoderTiny", "DDIMScheduler", "DDPMScheduler", "StableUnCLIPImg2ImgPipeline"],
    "matplotlib.figure": [],
    "matplotlib.font_manager": [],
    "scipy.stats": [],
    "pyarrow.parquet": [],
    "jinja2": [],
    "openai": [],
    "rich.progress": [],
    "rich.live": [],
    "pydantic": [],
    "typer": [],
    "yaml": [],
}
"""What is imported ahead, none of it concord's own: a module, and what of it is only loaded when it is asked for."""


@dataclass
class Tree:
    """A checkout at work. work: its working directory; hand: where it goes on with what OLD left (`handover`).

    cold: a new interpreter for each command.
    """

    checkout: Path
    work: Path
    hand: Path
    cold: bool = False
    version: str = ""
    cpu: dict[str, float] = field(default_factory=dict)
    """Seconds of the processor that each command took."""

    def __post_init__(self) -> None:
        self.home = self.work / "home"  # stays when `work` changes

    @property
    def python(self) -> Path:
        return self.checkout / ".venv" / "bin" / "python"

    def environment(self) -> dict[str, str]:
        fixed = {
            "HOME": self.home,
            "TMPDIR": self.home / "tmp",
            "MPLCONFIGDIR": self.home / "matplotlib",
            "HF_HOME": self.home / "hub",
            "HF_HUB_OFFLINE": 1,
            "CUDA_VISIBLE_DEVICES": "",
            "COLUMNS": 120,
            "LINES": 50,
            "NO_COLOR": 1,
            "TERM": "dumb",
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
            "PYTHONHASHSEED": 0,
            "OMP_NUM_THREADS": 1,
            "MKL_NUM_THREADS": 1,
            "OPENBLAS_NUM_THREADS": 1,
            "PATH": os.environ.get("PATH", os.defpath),
        }
        return {name: str(value) for name, value in fixed.items()}

    def call(self, arguments: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
        """Run a program to its end, apart from the commands that are compared."""
        return subprocess.run(
            [str(argument) for argument in arguments],
            cwd=self.work,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )

    @contextlib.contextmanager
    def serving(self) -> Iterator[Callable[[Step], str]]:
        """Yield what runs the command of a step and returns what it said."""
        libraries = json.dumps({} if self.cold else LIBRARIES)
        with subprocess.Popen(
            [str(self.python), "-c", SERVER, libraries],
            cwd=self.work,
            env=self.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as server:
            if server.stdin is None or server.stdout is None:
                raise RuntimeError("pipes were asked for")
            requests, answers = server.stdin, server.stdout
            streams = {name: self.home / name for name in ("out", "err")}

            def ask(step: Step) -> str:
                script, module = [self.python.with_name("concord")], [self.python, "-m", "concord.cli"]
                program = script if step.script else module if self.cold else []
                asked = {
                    "program": [str(word) for word in program],
                    "arguments": shlex.split(step.command.replace("{hand}", self.hand.name)),
                    "directory": str(self.work),
                    "limit": LIMIT,
                    **{name: str(path) for name, path in streams.items()},
                }
                print(json.dumps(asked), file=requests, flush=True)
                answer = json.loads(answers.readline())
                self.cpu[step.command] = self.cpu.get(step.command, 0.0) + answer["cpu"]
                out, err = (path.read_text("utf-8", "backslashreplace") for path in streams.values())
                return f"exit code {answer['code']}\n--- stdout\n{out}\n--- stderr\n{err}"

            yield ask
            requests.close()

    def prepare(self) -> None:
        """Make the inputs, see that the package is the checkout's own, and let matplotlib look for its fonts.

        Raises:
            SystemExit: the directory is no checkout with an environment of its own.
        """
        make_inputs(self.work)
        if not self.python.is_file():
            raise SystemExit(f"{self.checkout} has no .venv/bin/python")
        # To look for a package at the top imports nothing of it.
        found = self.call([self.python, "-c", "import importlib.util as u; print(u.find_spec('concord').origin)"])
        if not Path(found.stdout.strip()).resolve().is_relative_to(self.checkout.resolve()):
            raise SystemExit(f"{self.python} has concord from elsewhere: {found.stdout.strip() or found.stderr}")
        self.call([self.python, "-c", "import matplotlib.font_manager"])
        self.version = self.call([self.python, "-m", "concord.cli", "--version"]).stdout.split()[-1]

    def normal(self, text: str) -> str:
        """A text without what may differ between two runs of one checkout; see the module's text."""
        places = [("<hand>", self.hand), ("<work>", self.work), ("<checkout>", self.checkout)]
        for name, path in places:
            for form in (str(path.resolve()), str(path)):
                text = text.replace(form, name)
        text = text.replace(self.hand.name, "<hand>")
        text = re.sub(rf"(?<![\w.]){re.escape(self.version)}(?!\w|\.\d)", "<version>", text)
        for pattern, instead in _RULES:
            text = pattern.sub(instead, text)
        return text

    def run(self, part: Part, ask: Callable[[Step], str]) -> Entries:
        """Run the steps of a part, and return what they came to."""
        found: Entries = {}
        for step in part.steps:
            if step.before is not None:
                step.before(self.work)
            name = step.command.replace("{hand}", "HAND")
            while name in found:
                name += " (again)"
            with held(self.work / step.locked if step.locked else None):
                found[name] = self.normal(ask(step))
            for leaves in step.leaves:
                place = self.work / leaves.replace("{hand}", self.hand.name)
                at = f"{name} -> {leaves.replace('{hand}', 'HAND')}"
                found |= {at + file: it for file, it in self.contents(place)}
                freeze(place)
        if part.inventory:
            files = sorted(str(path.relative_to(self.work)) for path in self.work.rglob("*"))
            found["all files"] = "\n".join(name for name in files if not name.startswith(("home/", "hand-")))
        return found

    def contents(self, place: Path) -> Iterator[tuple[str, str]]:
        """Yield each file below a place with its text or digest."""
        if not place.exists():
            yield "", "is missing"
            return
        for path in [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.is_file()):
            at = "" if path == place else f"/{path.relative_to(place)}"
            data = path.read_bytes()
            if path.suffix in TEXTS:
                text = self.normal(data.decode("utf-8", "backslashreplace"))
                yield at, _SUMS.sub(r"\1<sum>", text) if path.name == "checksums.json" else text
            else:
                yield at, f"sha256 {hashlib.sha256(data).hexdigest()}"


def freeze(place: Path) -> None:
    """Set the times in JSON files to one value, so that they are the same input for later commands."""
    for path in [place] if place.is_file() else place.rglob("*.json"):
        if path.suffix == ".json":
            text = path.read_text(encoding="utf-8")
            path.write_text(re.sub(_TIME_KEYS, r"\g<1>1.5", text), encoding="utf-8")


@contextlib.contextmanager
def held(directory: Path | None) -> Iterator[None]:
    """Hold a directory as a run does that is at work in it."""
    if directory is None:
        yield
        return
    import fcntl

    with open(directory / ".concord.lock", "a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


# --------------------------------------------------------------------------------------------------------------- inputs


def make_inputs(work: Path) -> None:
    """Write the photographs and the broken files that the commands are given; the same bytes wherever it runs."""
    for name in ("home/tmp", "bad/empty/a", "bad/loose", "bad/unfinished"):
        (work / name).mkdir(parents=True)
    kinds = ("red dots", "green bars", "blue rings")
    for label, kind in enumerate(kinds):
        for index in range(12):
            save_photo(work / "photos" / kind / f"{index:02d}.png", label, index)
        for part, first, count in (("train", 0, 6), ("test", 20, 4)):
            for index in range(first, first + count):
                save_photo(work / "split" / part / kind / f"{index:02d}.png", label, index)
    # Common formats and modes that are no RGB PNG: a palette, an alpha channel, grey, JPEG.
    for index, mode in enumerate(("P", "RGBA", "L")):
        path = work / "photos" / kinds[0] / f"{index:02d}.png"
        Image.open(path).convert(mode).save(path)
    Image.open(work / "photos" / kinds[1] / "00.png").save(work / "photos" / kinds[1] / "12.jpg", quality=90)
    for position, wnid in enumerate(WOOF):
        save_photo(work / "woof" / wnid / "0.png", position % 3, position)
    save_photo(work / "bad" / "loose" / "0.png", 0, 0)
    for index in range(3):
        save_photo(work / "bad" / "one" / "alone" / f"{index}.png", 0, index)
        save_photo(work / "bad" / "torn" / "a" / f"{index}.png", 0, index)
        save_photo(work / "bad" / "torn" / "b" / f"{index}.png", 1, index)
    torn = work / "bad" / "torn" / "b" / "1.png"
    torn.write_bytes(torn.read_bytes()[:200])
    for name, text in FILES.items():
        (work / name).write_text(text, encoding="utf-8")
    (work / "bad" / "binary.yaml").write_bytes(b"\xff\xfe\x00schema")
    (work / "bad" / "torn.parquet").write_bytes(b"PAR1 torn")
    (work / "bad" / "torn.safetensors").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{torn")
    save_weights(work / "dit.safetensors", original_dit())


def save_photo(path: Path, label: int, index: int) -> None:
    """Draw an image of its class: dots, bars or rings of a colour of its own, on noise."""
    rng = np.random.default_rng(1000 * label + index)
    height, width = (int(side) for side in rng.integers(40, 73, 2))
    y, x = np.mgrid[:height, :width].astype(np.float64)
    phase, pitch = float(rng.uniform(0, 6)), float(rng.uniform(6, 10))
    waves = (
        np.sin(x / pitch * 6 + phase) * np.sin(y / pitch * 6),
        np.sin(x / pitch * 6 + phase),
        np.sin(np.hypot(x - width / 2, y - height / 2) / pitch * 6 + phase),
    )
    pixels = rng.uniform(0, 60, (height, width, 3))
    pixels[..., label] += 90 + 90 * (waves[label] > 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def original_dit(depth: int = 2, width: int = 16, patch: int = 2, grid: int = 4) -> dict[str, np.ndarray]:
    """A tiny DiT of 10 classes under the names of the original's checkpoints, for `convert`."""
    rng = np.random.default_rng(0)
    shapes = {
        "x_embedder.proj": (width, 4, patch, patch),
        "t_embedder.mlp.0": (width, 256),
        "t_embedder.mlp.2": (width, width),
        "final_layer.linear": (patch * patch * 8, width),
        "final_layer.adaLN_modulation.1": (2 * width, width),
    }
    for i in range(depth):
        for name, out, into in (
            ("attn.qkv", 3, 1),
            ("attn.proj", 1, 1),
            ("mlp.fc1", 4, 1),
            ("mlp.fc2", 1, 4),
            ("adaLN_modulation.1", 6, 1),
        ):
            shapes[f"blocks.{i}.{name}"] = (out * width, into * width)
    rates = 10000.0 ** (-np.arange(width // 4) / (width // 4))
    places = [(column, row) for row in range(grid) for column in range(grid)]
    table = [[*np.sin(c * rates), *np.cos(c * rates), *np.sin(r * rates), *np.cos(r * rates)] for c, r in places]
    state = {"pos_embed": np.asarray([table]), "y_embedder.embedding_table.weight": rng.normal(size=(11, width))}
    for name, shape in shapes.items():
        state |= {f"{name}.weight": rng.normal(size=shape), f"{name}.bias": rng.normal(size=shape[:1])}
    return {name: values.astype("<f4") for name, values in state.items()}


def save_weights(path: Path, state: dict[str, np.ndarray]) -> None:
    """Write float32 arrays as safetensors: the length of a JSON header, the header, the bytes."""
    header, data = {}, b""
    for name, values in state.items():
        end = len(data) + values.nbytes
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [len(data), end]}
        data += values.tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


WOOF = [
    "n02086240",
    "n02087394",
    "n02088364",
    "n02089973",
    "n02093754",
    "n02096294",
    "n02099601",
    "n02105641",
    "n02111889",
    "n02115641",
]  # the ten dogs of ImageWoof
FILES = {
    "names.txt": "red dots\n# a remark\ngreen bars\nblue rings\n",
    "descriptors.json": json.dumps(
        {
            "red dots": ["round red spots", "dark gaps between the spots", "", "a regular grid of spots"],
            "green bars": ["upright green stripes", "Dark stripes", "a green barred pattern"],
            "blue rings": ["nested blue circles", "a dark centre", "a friendly temperament", "nested blue circles"],
            "nothing": [],
        }
    ),
    "bank.json": json.dumps(
        {
            "schema": 1,
            "name": "patterns",
            "classes": {
                "red dots": {"phrases": ["round red spots", "a regular grid of spots"], "look_alikes": ["blue rings"]},
                "green bars": {"phrases": ["upright green stripes", "long dark gaps"], "look_alikes": ["red dots"]},
                "blue rings": {"phrases": ["nested blue circles", "a dark centre"], "look_alikes": ["red dots"]},
            },
        }
    ),
    "own.yaml": "schema: 1\nmethod: random\ndata: photos\nipc: 1\nsize: 24\nseed: 5\n",
    "bad/file.txt": "no image\n",
    "bad/empty.yaml": "",
    "bad/list.yaml": "- a\n- b\n",
    "bad/broken.yaml": "method: random\ndata: [photos\nipc: 1\n",
    "bad/unknown.yaml": "schema: 1\nmethod: random\ndata: photos\nsede: 1\ninforming: {strenght: 1}\n",
    "bad/values.yaml": "schema: 1\nmethod: random\ndata: photos\nipc: -1\nseed: x\npipeline: 3\nclasses: {a: 1}\n",
    "bad/unfinished/recipe.yaml": "schema: 1\nmethod: random\ndata: photos\n",
    "bad/not.json": "{torn",
    "bad/bank.json": '{"schema": 1, "name": "x", "classes": {"red dots": {"phrases": []}}}',
    "bad/descriptors.json": '["a", "b"]',
    "bad/evaluation.json": '{"cells": 3}',
}


# ------------------------------------------------------------------------------------------------------------ the parts


def again(place: str) -> Callable[[Path], None]:
    """Put a finished run into the state of one that was killed: an image and its results are missing."""

    def change(work: Path) -> None:
        run = work / place
        (run / "results.json").unlink(missing_ok=True)
        for image in sorted(run.glob("images/*/00001.*"))[:1]:
            image.unlink()

    return change


def steps(text: str) -> list[Step]:
    """A step a line; ``=> PLACE ...`` at its end says what it leaves. Lines that start with # are remarks."""
    lines = [" ".join(line.split()) for line in text.splitlines()]
    found = []
    for line in lines:
        if line and not line.startswith("#"):
            command, _, leaves = line.partition(" => ")
            found.append(Step(command, leaves.split()))
    return found


REEF = "distill reef pipeline.steps=8 workers=1 --out out/reef"
EXACT = 'distill reef-paper pipeline.steps=4 workers=1 classes="coral perch,river perch" concepts.images=5 --out'
RANDOM = "distill photos data=photos size=32 ipc=2"
STUDENT = "student=convnet-3 width=8 size=16 workers=1"
TAUGHT = f"{STUDENT} epochs=4 teacher=teacher.safetensors"

RUN = [
    Step(f"{REEF} ipc=2", ["out/reef"]),
    Step(f"{REEF} ipc=3", ["out/reef"]),
    Step(f"{EXACT} out/exact ipc=1 --json", ["out/exact"]),
    *steps(
        """
        distill reef pipeline.steps=4 workers=1 classes="coral perch,river perch" concepts.images=5 \
            informing.mode=mean informing.decoder=full informing.objective.cosine=0.5 \
            informing.objective.class_name=0.5 concepts.negatives.kind=similar-1 scorer.kind=percentile \
            pipeline.scheduler=ddpm ipc=1 seed=7 uninformed=false --quiet --out out/mean => out/mean
        distill reef pipeline.steps=4 workers=1 classes="coral perch,river perch" informing.enabled=false ipc=1 \
            format.kind=webp --out out/plain => out/plain
        """
    ),
]
PHOTOS = [
    *steps(
        f"""
        teacher photos --test split/test student=convnet-3 width=8 size=16 epochs=30 batch=16 lr=0.02 \
            --out teacher.safetensors => teacher.safetensors
        {RANDOM} --out out/random => out/random
        {RANDOM} ipc=3 --out out/random => out/random
        {RANDOM} ipc=3 --out out/random --json
        """
    ),
    Step(f"{RANDOM} ipc=3 --out out/random", ["out/random"], again("out/random")),
    *steps(
        f"""
        {RANDOM} method=herding --out out/herding => out/herding
        {RANDOM} method=k_center seed=3 --out out/k-center => out/k-center
        {RANDOM} method=herding features=encoder encoder=reef:clip --out out/herding-clip => out/herding-clip
        {RANDOM} method=k_center teacher=teacher.safetensors --out out/k-center-teacher => out/k-center-teacher
        {RANDOM} method=rded teacher=teacher.safetensors rded.images=8 rded.crops=3 --out out/rded => out/rded
        {RANDOM} method=rded teacher=teacher.safetensors rded.images=8 rded.crops=3 ipc=3 --out out/rded => out/rded
        distill photos data=photos method=full size=null format.kind=jpeg format.quality=80 --out out/full => out/full
        distill photos data=split classes="red dots,blue rings" class_names.red\\ dots=dots ipc=2 size=null \
            format.kind=webp --out out/split => out/split
        distill own.yaml --quiet => out/own
        distill photos data=bad/torn unreadable=skip ipc=2 --out out/torn => out/torn
        distill photos data=bad/one ipc=2 --out out/one => out/one
        """
    ),
]
EVALUATE = steps(
    f"""
    evaluate out/reef --test reef-test {STUDENT} epochs=2 seeds=1 ipc=1,3 protocol=rded,hard => out/reef
    evaluate out/random --test photos {TAUGHT} seeds=2 ipc=1,2 protocol=rded,paper,plain,hard,dc => out/random
    evaluate out/random --test photos {TAUGHT} seeds=0,1,5 ipc=1,2 protocol=rded,hard --json => out/random
    evaluate out/full --test photos {STUDENT} epochs=4 seeds=2 protocol=hard --quiet => out/full
    evaluate out/herding --test photos {TAUGHT} seeds=2 ipc=2 protocol=rded,hard,plain --random out/random \
        --full out/full => out/herding
    evaluate out/herding --test split/test {STUDENT} epochs=3 seeds=1 ipc=2 protocol=dc \
        augment.dsa=color_crop_cutout_flip_scale_rotate norm=group pool=max --out e.json => e.json
    evaluate out/rded --test photos {TAUGHT} seeds=1 protocol=rded mixing.kind=mixup temperature=4 \
        augment.patch_shuffle=null --remap => out/rded
    evaluate photos --test split student=resnet-18-modified size=16 epochs=1 seeds=1 protocol=hard workers=1 \
        --out r.json => r.json
    labels out/random --out labels {TAUGHT} ipc=2 => labels
    labels out/random --out labels {TAUGHT} ipc=2
    labels out/random --out labels-8 {TAUGHT} ipc=2 bits=uint8 top_k=2 protocol=paper seeds=[3] --json => labels-8
    labels out/random --out labels-16 {TAUGHT} ipc=2 bits=float16 --test split => labels-16
    evaluate out/random --test photos {STUDENT} epochs=4 seeds=1 ipc=2 soft_labels=labels => out/random
    evaluate out/random --test photos {STUDENT} epochs=4 seeds=3 ipc=2 soft_labels=labels-16 --out s.json => s.json
    teacher split --out split.safetensors student=resnetap-10 size=16 epochs=1 batch=9 seed=3 --json \
        => split.safetensors
    """
)
EXPORT = [
    *steps(
        "\n".join(
            f"export out/{run} --layout {layout} --out sets/{run}-{layout}{more} => sets/{run}-{layout}"
            for run in ("reef", "random", "full", "rded")
            for layout, more in (
                ("folder", ""),
                ("rded", ""),
                ("ddranking", ""),
                ("webdataset", " --shard-size 4"),
                ("parquet", " --shard-size 20"),
            )
            if run == "reef" or layout in ("folder", "parquet") or (run, layout) == ("full", "rded")
        )
    ),
    *steps(
        f"""
        export out/reef --layout folder --variant uninformed --out sets/uninformed => sets/uninformed
        export out/reef --layout webdataset --variant uninformed --out sets/shards --quiet => sets/shards
        distill photos data=sets/reef-parquet ipc=1 --out out/from-parquet => out/from-parquet
        distill photos data=sets/random-folder ipc=1 --out out/from-folder => out/from-folder
        evaluate sets/random-parquet --test photos {STUDENT} epochs=2 seeds=1 protocol=hard --out p.json => p.json
        """
    ),
]
COMPARE = steps(
    """
    distill photos data=reef ipc=3 size=null --out out/reef-random => out/reef-random
    compare out/reef-random out/reef --out pages/reef.html => pages/reef.html
    compare out/reef-random out/reef --json
    compare out/reef out/exact --out pages/few.html --most 2 --json => pages/few.html
    compare out/random out/herding --out pages/photos.html => pages/photos.html
    compare out/herding out/random --json
    compare out/random out/random
    report out/reef => out/reef
    report out/exact => out/exact
    report out/random => out/random
    """
)
CONCEPTS = steps(
    """
    concepts banks
    concepts show "coral perch"
    concepts show beagle
    concepts show "red dots" --bank bank.json
    concepts lint reef
    concepts lint imagewoof --json
    concepts lint bank.json
    concepts lint bank.json --json
    concepts import descriptors.json --out made.json => made.json
    concepts import descriptors.json --out named.json --name named => named.json
    concepts lint made.json
    concepts select reef reef --encoder reef:clip --images 3 --chart c.png --out c.json => c.png c.json
    concepts select reef reef --encoder reef:clip --images 2 --keep 3 --classes "coral perch,river perch" \
        --pin "coral perch=a red hat" --json
    concepts select bank.json photos --encoder reef:clip --keep 1 --images 0
    concepts negatives reef reef --encoder reef:clip --heatmap h.png => h.png
    concepts negatives reef reef --encoder reef:clip --kind similar --k 2 --count 3 --class "coral perch"
    concepts negatives imagewoof imagewoof --encoder reef:clip --kind random --json
    concepts score reef reef --encoder reef:clip --images 4
    concepts score bank.json photos --encoder reef:clip --images 4 --json
    concepts compare bank.json made.json
    concepts compare bank.json made.json --json
    concepts compare bank.json made.json photos --encoder reef:clip --keep 1 --class "red dots"
    concepts compare reef reef reef --encoder reef:clip --images 2 --json
    init photos => photos.yaml
    init photos --out with-bank.yaml --bank bank.json --ipc 3 --model some/model => with-bank.yaml
    init split --out split.yaml => split.yaml
    init woof => woof.yaml
    distill photos.yaml --dry-run
    """
)
PREVIEWS = [
    "reef",
    "reef-paper",
    "photos",
    "custom",
    "food-101-unclip",
    "imagewoof-dit",
    "imagewoof-minimax",
    "imagewoof-unclip",
    "imagenette-dit",
    "imagenette-minimax",
    "imagenette-unclip",
    "imagenet-100-dit",
    "imagenet-100-minimax",
    "imagenet-100-unclip",
    "imagenet-1k-dit",
    "imagenet-1k-minimax",
    "imagenet-1k-unclip",
]
RECIPES = [
    *steps("recipes\nrecipes --json\nrecipes reef\ndoctor\ndoctor --json\n--version"),
    Step("--version", script=True),
    Step("distill photos data=photos --dry-run --json", script=True),
    *(
        Step(f"distill {name}{' data=photos' if name in ('photos', 'custom') else ' data=woof'} --dry-run{more}")
        for name in PREVIEWS[2:]
        for more in ("", " --json")
        if name == "photos" or "woof" in name or not more
    ),
    *steps(
        """
        distill reef ipc=1 --dry-run --workers 1
        distill reef-paper ipc=1 --dry-run --json --workers 1
        distill photos data=split method=herding ipc=3 --dry-run
        """
    ),
    Step("convert dit.safetensors --out dit --heads 2", ["dit"]),
    Step("convert dit.safetensors --out dit-16 --heads 2 --dtype float16", ["dit-16"]),
]
COMMANDS = [
    "distill",
    "compare",
    "convert",
    "evaluate",
    "export",
    "init",
    "labels",
    "recipes",
    "report",
    "teacher",
    "doctor",
    "concepts",
]
OF_CONCEPTS = ["retrieve", "banks", "show", "lint", "import", "select", "negatives", "score", "compare"]
HELP = [
    Step(""),
    Step("--help"),
    *(Step(f"{name} --help") for name in COMMANDS),
    *(Step(f"concepts {name} --help") for name in OF_CONCEPTS),
]

KEYS = """
    ipcs=3
    informing.strenght=0.2
    strength=0.2
    pipeline.step=8
    informing.objective.cosin=1
    class_name.nemo=fish
    ipc
    =3
    ipc=0
    ipc=many
    ipc=2.5
    seed=-1
    size=0
    batch_size=0
    dtype=float8
    method=herdin
    uninformed=perhaps
    device=gpu
    workers=none
    threads=0
    unreadable=ignore
    schema=2
    format.kind=gif
    format.quality=101
    format=png
    features=clip
    pipeline.steps=0
    pipeline.guidance_scale=-1
    pipeline.scheduler=ddmi
    pipeline.channels=0
    pipeline.noise_level=1000
    pipeline.size=64
    "pipeline.prompts=[a photo of a {class}]"
    pipeline.image_strength=0.5
    informing.mode=fats
    informing.weight=-1
    informing.strength=nan
    informing.temperature=0
    "informing.window=[0.5, 0.5]"
    informing.window=0.5
    "informing.window=[0, 2]"
    informing.every=0
    informing.between=keep
    informing.decoder=small
    informing.decode_size=half
    informing.stop=1
    informing.objective.contrastive=0
    informing.objective.classifier=1
    informing.objective.classifier=1 informing.classifier=reef:teacher informing.stop=0.5
    concepts.keep=0
    concepts.images=0
    "concepts.pinned={coral perch: a hat}"
    concepts.negatives.kind=similiar
    concepts.negatives.count=-1
    scorer.kind=detector scorer.model=null
    scorer.kind=judge
    rded.factor=9
    memory.vae=slice
    "classes={a: 1}"
    "seed=[1"
    ipc=0 seed=-1 dtype=x informing.every=0 formt=png
"""
"""Values that no recipe takes; they are refused before anything is read."""
MISTAKES = [
    *steps("\n".join(f"distill reef {key.strip()} --dry-run" for key in KEYS.splitlines() if key.strip())),
    *steps(
        """
        distill
        distil reef
        distill reef --outt x
        distill reef --workers 0
        distill reefs
        distill nowhere.yaml
        distill bad/empty.yaml
        distill bad/list.yaml
        distill bad/broken.yaml
        distill bad/binary.yaml
        distill bad/unknown.yaml
        distill bad/values.yaml
        distill photos
        distill photos data=nowhere
        distill photos data=bad/empty
        distill photos data=bad/file.txt
        distill photos data=bad/loose
        distill photos data=bad/torn
        distill photos data=bad/torn.parquet
        distill photos data=photos ipc=99
        distill photos data=photos classes=imagewolf
        distill photos data=photos classes=imagewoof
        distill photos data=photos class_names.red=x
        distill photos data=photos method=rded
        distill photos data=photos method=rded teacher=nowhere.safetensors
        distill photos data=photos method=rded teacher=bad/torn.safetensors
        distill photos data=photos method=rded teacher=teacher.safetensors size=32 ipc=99
        distill photos data=photos method=rded teacher=reef:teacher size=32
        distill photos data=photos method=herding features=teacher
        distill photos data=photos method=k_center features=encoder encoder=no/such
        distill photos data=photos method=minimax
        distill photos data=photos method=text
        distill photos data=photos method=text pipeline.model=x pipeline.steps=4 pipeline.image_strength=0.1
        distill custom data=photos "pipeline.prompts=[a photo]"
        distill custom data=photos pipeline.channels=3
        distill custom data=photos
        distill imagewoof-dit
        distill imagewoof-dit data=photos
        distill imagewoof-minimax data=woof
        distill reef "classes=[nemo]"
        distill reef "classes=[]"
        distill reef concepts.bank=reeff
        distill reef concepts.bank=null
        distill reef concepts.bank=imagewoof
        distill reef informing.decoder=tiny pipeline.tiny_decoder=null
        distill reef encoder=./nowhere
        distill reef pipeline.model=nowhere/at-all scorer.model=nowhere
        distill reef pipeline.model=reef:clip
        distill photos data=photos size=32 ipc=3 seed=1 --out out/random
        distill photos data=photos size=24 ipc=3 method=herding format.kind=webp --out out/random
        distill photos data=split size=32 ipc=3 --out out/random
        distill photos data=photos size=32 ipc=1 --out out/random
        distill photos data=photos --out photos
        distill photos data=photos --out bad/file.txt
        export nowhere --layout folder --out x
        export photos --layout folder --out x
        export bad/unfinished --layout folder --out x
        export out/random --layout zip --out x
        export out/random --layout folder --variant uninformed --out x
        export out/random --layout folder --out photos
        export out/random --layout folder --out out/random/images/x
        export out/random --layout folder --shard-size 3 --out x
        report nowhere
        report bad/unfinished
        compare out/random nowhere
        compare out/random bad/unfinished
        compare out/random out/split
        compare out/random out/herding --most 0
        evaluate nowhere --test photos protocol=hard
        evaluate out/random --test nowhere protocol=hard
        evaluate out/random --test woof protocol=hard
        evaluate out/random --test photos student=convnet-3 size=16
        evaluate out/random --test photos student=convnet-9 protocol=hard
        evaluate out/random --test photos student=timm:resnet protocol=hard
        evaluate out/random --test photos student=convnet-6 size=16 protocol=hard
        evaluate out/random --test photos student=resnet-18 width=3 protocol=hard
        evaluate out/random --test photos protocol=rdde
        evaluate out/random --test photos protocol=hard seeds=0
        evaluate out/random --test photos protocol=hard ipc=0
        evaluate out/random --test photos protocol=hard epochs=0 size=4 norm=batchnorm
        evaluate out/random --test photos protocol=hard lr=-1
        evaluate out/random --test photos protocol=hard epoch=3
        evaluate out/random --test photos protocol=hard mixing.kind=cut
        evaluate out/random --test photos protocol=dc augment.dsa=blur
        evaluate out/random --test photos protocol=hard ipc=99 student=convnet-3 size=16
        evaluate out/random --test photos student=convnet-3 size=16 teacher=nowhere.safetensors
        evaluate out/random --test photos student=convnet-3 size=16 teacher=reef:teacher
        evaluate out/random --test photos student=convnet-3 size=16 soft_labels=nowhere
        evaluate out/random --test photos student=convnet-3 size=16 protocol=hard --out photos
        evaluate out/random --test photos student=convnet-3 size=16 protocol=hard --out bad/evaluation.json
        evaluate out/random --test photos student=convnet-3 size=16 protocol=hard --random out/rded
        labels out/random --out x protocol=hard
        labels out/random --out x student=convnet-3,resnet-18
        labels out/random --out x bits=int4
        labels out/random --out x teacher=teacher.safetensors top_k=0
        teacher photos --out x.pth
        teacher photos --out teacher.safetensors
        teacher photos --out x.safetensors labels=soft
        teacher nowhere --out x.safetensors
        concepts lint nowhere
        concepts lint bad/bank.json
        concepts lint bad/not.json
        concepts show nemo
        concepts show beagel
        concepts import bad/descriptors.json --out x.json
        concepts import bad/not.json --out x.json
        concepts import bank.json --out x.json
        concepts select reef photos --encoder reef:clip
        concepts select reef reef --pin perch
        concepts select reef reef --encoder no/such
        concepts select reef reef --classes nemo
        concepts negatives reef reef --kind weihgted
        concepts negatives reef reef --class nemo --encoder reef:clip
        concepts score reef reef --encoder no/such --json
        concepts compare reef bank.json --class "red dots"
        concepts retrieve names.txt
        concepts retrieve names.txt --model m
        concepts retrieve nowhere.txt --model m --base-url http://localhost:9/v1
        concepts retrieve names.txt --model m --base-url http://localhost:9/v1 --prompt best
        init nowhere
        init bad/empty
        init photos --out own.yaml
        init photos --out x.yaml --bank reef
        convert nowhere.pt --out x
        convert bad/torn.safetensors --out x
        convert teacher.safetensors --out x
        convert dit.safetensors --out x
        """
    ),
    Step(f"{RANDOM} ipc=4 --out out/random", locked="out/random"),
    Step("evaluate out/random --test photos student=convnet-3 size=16 protocol=hard", locked="out/random"),
]
HANDOVER = steps(
    f"""
    {EXACT} {{hand}}/out/exact ipc=2 => {{hand}}/out/exact
    {RANDOM} ipc=4 --out {{hand}}/out/random => {{hand}}/out/random
    {RANDOM} method=rded teacher=teacher.safetensors rded.images=8 rded.crops=3 ipc=4 --out {{hand}}/out/rded \
        => {{hand}}/out/rded
    {RANDOM} method=herding --out {{hand}}/out/herding => {{hand}}/out/herding
    evaluate {{hand}}/out/herding --test photos {STUDENT} epochs=4 teacher={{hand}}/teacher.safetensors seeds=3 \
        ipc=2 protocol=rded,hard,plain => {{hand}}/out/herding
    labels {{hand}}/out/random --out {{hand}}/labels {STUDENT} epochs=4 teacher={{hand}}/teacher.safetensors ipc=2 \
        => {{hand}}/labels
    evaluate {{hand}}/out/random --test photos {STUDENT} epochs=4 seeds=1 ipc=2 soft_labels={{hand}}/labels \
        => {{hand}}/out/random
    report {{hand}}/out/exact => {{hand}}/out/exact
    compare {{hand}}/out/random {{hand}}/out/herding --json
    export {{hand}}/out/exact --layout folder --out {{hand}}/set => {{hand}}/set
    """
)
PARTS = {
    "run": Part(RUN),
    "photos": Part(PHOTOS),
    "evaluate": Part(EVALUATE, needs=["run", "photos"]),
    "export": Part(EXPORT, needs=["run", "photos"]),
    "compare": Part(COMPARE, needs=["run", "photos", "evaluate"]),
    "concepts": Part(CONCEPTS),
    "recipes": Part(RECIPES),
    "help": Part(HELP),
    "mistakes": Part(MISTAKES, needs=["photos"], inventory=True),
    "handover": Part(HANDOVER, needs=["run", "photos", "evaluate"]),
}
HANDED = "out/exact", "out/random", "out/rded", "out/herding", "labels", "teacher.safetensors"
"""What OLD left and both go on with."""


# ------------------------------------------------------------------------------------------------------------ comparing


def run_both(trees: Sequence[Tree], parts: Sequence[str]) -> list[dict[str, Entries]]:
    """Run parts in both checkouts side by side; `handover` last, from a copy each of what OLD left."""
    found: list[dict[str, Entries]] = [{} for _ in trees]
    with ThreadPoolExecutor(len(trees)) as pool, contextlib.ExitStack() as stack:
        for done in [pool.submit(tree.prepare) for tree in trees]:
            done.result()
        asking = [stack.enter_context(tree.serving()) for tree in trees]

        def work_through(number: int, names: Sequence[str]) -> None:
            tree = trees[number]
            for name in names:
                begun = time.monotonic()
                found[number][name] = tree.run(PARTS[name], asking[number])
                took = time.monotonic() - begun
                print(f"  {NAMES[number]}: {name} ran in {took:.0f} s", file=sys.stderr, flush=True)

        def both(names: Sequence[str]) -> None:
            for done in [pool.submit(work_through, number, names) for number in range(len(trees))]:
                done.result()

        both([name for name in parts if name != "handover"])
        if "handover" in parts:
            home = trees[0].work
            for tree in trees:
                tree.hand.mkdir()
                for name in HANDED:
                    source, target = home / name, tree.hand / name
                    target.parent.mkdir(exist_ok=True)
                    shutil.copytree(source, target) if source.is_dir() else shutil.copy2(source, target)
                tree.work = home  # the data's place is part of what a set is
            both(["handover"])
    return found


def wanted(only: Sequence[str]) -> list[str]:
    """The parts to run, in order: those that are asked for, and what they need."""
    chosen = set(only or PARTS)
    for name in reversed(PARTS):  # a part needs earlier ones only
        if name in chosen:
            chosen.update(PARTS[name].needs)
    return [name for name in PARTS if name in chosen]


def difference(name: str, old: str | None, new: str | None) -> list[str]:
    """Say how an entry differs: a short unified diff, or in which of the two it is."""
    if old is None or new is None:
        return [f"  {name}: only in {NAMES[new is not None]}"]
    lines = [*difflib.unified_diff(old.splitlines(), new.splitlines(), *NAMES, n=1, lineterm="")]
    shown = [f"      {line[:SHOWN_COLUMNS]}" for line in lines[:SHOWN_LINES]]
    more = [f"      ... {len(lines) - SHOWN_LINES} more lines"] if len(lines) > SHOWN_LINES else []
    return [f"  {name}", *shown, *more]


def compare(name: str, old: Entries, new: Entries) -> list[str]:
    """Print how a part compares; return the names of the entries that differ."""
    differing = [entry for entry in {**old, **new} if old.get(entry) != new.get(entry)]
    if not differing:
        print(f"{name}: equal ({len(PARTS[name].steps)} commands, {len(old)} texts and files)")
        return []
    print(f"{name}: differs in {len(differing)} of {len({**old, **new})} texts and files")
    for entry in differing[:SHOWN_ENTRIES]:
        print("\n".join(difference(entry, old.get(entry), new.get(entry))))
    for entry in differing[SHOWN_ENTRIES:]:
        print(f"  {entry}")
    return differing


def digests(entries: Entries) -> dict[str, str]:
    return {
        name: it.removeprefix("sha256 ") if it.startswith("sha256 ") else hashlib.sha256(it.encode()).hexdigest()
        for name, it in entries.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=[], metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--strict", action="store_true", help="a difference in the help fails, too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all digests and what differs")
    parser.add_argument("--cold", action="store_true", help="a new interpreter for each command: as users have it")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="work there, in old/ and new/, and leave it all")
    options = parser.parse_args()
    if options.keep is not None:
        options.keep.mkdir(parents=True)
    parts = wanted(options.only)
    begun = time.monotonic()
    with contextlib.ExitStack() as stack:
        base = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="same-bytes-")))
        base = base.resolve()
        checkouts = zip(NAMES, (options.old, options.new), strict=True)
        trees = [
            Tree(at.absolute(), base / name, base / NAMES[0] / f"hand-{name}", options.cold) for name, at in checkouts
        ]
        old, new = run_both(trees, parts)
    shown = [name for name in parts if not options.only or name in options.only]
    differing = {name: compare(name, old[name], new[name]) for name in shown}
    failed = [name for name in shown if differing[name] and (options.strict or name not in INFORMATIVE)]
    seconds = time.monotonic() - begun
    print(f"{'not equal: ' + ', '.join(failed) if failed else 'equal'} ({seconds:.0f} s)")
    if options.json is not None:
        record = {
            name: {
                "equal": not differing[name],
                "differing": differing[name],
                "cpu": {step.command: round(trees[1].cpu[step.command], 2) for step in PARTS[name].steps},
                "old": digests(old[name]),
                "new": digests(new[name]),
            }
            for name in shown
        }
        values = {"schema": 1, "equal": not failed, "seconds": round(seconds), "parts": record}
        options.json.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
