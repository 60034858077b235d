"""Does a command that is killed anywhere, and given again, leave what it leaves undisturbed?

    python benchmarks/kill.py [NAME ...] [--every 1] [--random 20] [--json]

Each command runs in a child that is forked from this process and killed by SIGKILL: just before its n-th change of the
file system (a file opened to be written, renamed or removed, a directory made or removed, and every step between
writing, syncing and renaming), for every n, or each so-manieth; then at random moments of its running time, up to four
in a row. Then the same command is given to its end, and every file below its directory, hidden ones included but for
locks, is compared with those of an undisturbed call. Left out are times, what results.json says of the last call, and
what the page tells of them; a page must end as one.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from record import RESULTS, head, write

from concord.cli.commands import app
from concord.evaluation import train_teacher
from concord.storage import atomic

NET = "student=convnet-1 width=4 size=16 device=cpu dtype=float32"
TIMES = frozenset({"seconds", "seconds_per_image", "images_per_second", "date", "last_call"})
CHANGES = frozenset({"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"})
IMPORTED = (
    *("concord.workflows.evaluate", "concord.workflows.draw", "concord.evaluation.label", "concord.methods.diffusion"),
    *("concord.concepts.llm.retrieve", "concord.export", "diffusers.pipelines.dit.pipeline_dit", "pyarrow.parquet"),
    *("transformers.models.clip.modeling_clip", "openai", "torch._dynamo", "torchvision.transforms.v2.functional"),
)
"""What commands import, so that no child need do so."""
LIMIT, IN_A_ROW = 600.0, 4
"""Seconds after which a command counts as hanging; kills of one attempt at random moments."""


@dataclass(frozen=True)
class Scenario:
    """A command. `{inputs}`: what `make_inputs` leaves; `{at}`: its own directory, where copies of `needs` lie."""

    name: str
    command: str
    needs: Sequence[str] = ()


SCENARIOS = (
    Scenario(
        "distill",
        "distill reef classes=[coral perch,river perch] ipc=2 batch_size=2 pipeline.steps=2 workers=1"
        " concepts.images=4 --out {at}/run",
    ),
    Scenario("distill-real", "distill photos data={inputs}/data ipc=2 --out {at}/run"),
    Scenario(
        "evaluate",
        f"evaluate {{at}}/run --test {{inputs}}/data {NET} protocol=hard,dc epochs=2 seeds=2 ipc=1,2 workers=1",
        ["run"],
    ),
    Scenario("teacher", f"teacher {{inputs}}/data --out {{at}}/teacher.safetensors {NET} epochs=4"),
    Scenario(
        "labels",
        f"labels {{inputs}}/run --out {{at}}/labels {NET} protocol=rded epochs=3"
        " teacher={inputs}/teacher.safetensors",
    ),
    Scenario(
        "retrieve",
        "concepts retrieve {inputs}/names.txt --out {at}/bank.json --base-url {server} --model m --concurrency 1",
    ),
    *(
        Scenario(f"export-{layout}", f"export {{inputs}}/run --layout {layout} --out {{at}}/set")
        for layout in ("folder", "rded", "ddranking", "webdataset", "parquet")
    ),
)


class Kills:
    """The inputs of all scenarios below a directory, and what it takes to run one of them."""

    def __init__(self, place: Path) -> None:
        self.place, self.inputs, self.log, self.server = place, place / "inputs", place / "log", ""
        self.number = 0
        for name in IMPORTED:
            importlib.import_module(name)
        make_inputs(self)

    def arguments(self, command: str, at: Path) -> list[str]:
        known = {"inputs": str(self.inputs), "at": str(at), "server": self.server}
        return [word.replace("\0", " ").format_map(known) for word in _words(command)]

    def fresh(self, scenario: Scenario) -> Path:
        """A new directory of a scenario, with copies of what it needs."""
        self.number += 1
        at = self.place / f"{scenario.name}-{self.number:05d}"
        at.mkdir()
        for name in scenario.needs:
            shutil.copytree(self.inputs / name, at / name)
        return at

    def run(self, scenario: Scenario, at: Path, kill: int | None = None, after: float | None = None) -> bool:
        """Run a scenario's command in a child; return whether it was killed, at its n-th change or after some seconds.

        Raises:
            RuntimeError: it ended otherwise than well.
        """
        arguments = self.arguments(scenario.command, at)
        child = os.fork()
        if child == 0:
            self._be(arguments, at, kill)
        end = time.monotonic() + (LIMIT if after is None else after)
        while not (ended := os.waitpid(child, os.WNOHANG))[0]:
            if time.monotonic() > end:
                os.kill(child, signal.SIGKILL)
            time.sleep(0.001)
        if os.WIFSIGNALED(ended[1]) and (kill is not None or after is not None):
            return True
        if ended[1] != 0 and "is there already" not in self.log.read_text():  # it was killed when all was done
            raise RuntimeError(f"{' '.join(arguments)}: status {ended[1]}: {self.log.read_text()[-2000:]}")
        return False

    def _be(self, arguments: Sequence[str], at: Path, kill: int | None) -> None:
        """The child: it never returns. At its end `changes` has the number of its changes, and the log what it said."""
        sys.stdout = sys.stderr = open(self.log, "w", buffering=1)  # noqa: SIM115 - as long as the process
        for number in (1, 2):
            os.dup2(sys.stdout.fileno(), number)
        count = 0

        def step(*_: object) -> None:
            nonlocal count
            count += 1
            if count == kill:
                os.kill(os.getpid(), signal.SIGKILL)

        def hook(event: str, given: tuple[Any, ...]) -> None:
            changes = event in CHANGES or (event == "open" and given[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
            if changes and isinstance(given[0], str | Path) and str(given[0]).startswith(str(at)):
                step()

        code = 70
        try:
            sys.addaudithook(hook)
            atomic.failpoint = step
            train_teacher.EVERY = -1.0  # a checkpoint after every epoch: one of seconds would have none
            app(list(arguments))
        except SystemExit as error:
            code = int(error.code or 0)
        except BaseException:
            traceback.print_exc()
        (self.place / "changes").write_text(str(count))
        os._exit(code)


def make_inputs(kills: Kills) -> None:
    """Coloured squares of three classes, a run of them, a teacher, and class names."""
    rng = np.random.default_rng(0)
    for channel, name in enumerate(("ash", "birch", "cedar")):
        folder = kills.inputs / "data" / name
        folder.mkdir(parents=True)
        for number in range(6):
            pixels = rng.integers(0, 150, (16, 16, 3), dtype=np.uint8)
            pixels[..., channel] += 90
            Image.fromarray(pixels).save(folder / f"{number}.png")
    (kills.inputs / "names.txt").write_text("ash\nbirch\ncedar\ndogwood\n")
    first = Scenario("run", "distill photos data={inputs}/data ipc=2 --out {inputs}/run")
    second = Scenario(
        "teacher", f"teacher {{inputs}}/data --out {{inputs}}/teacher.safetensors {NET} epochs=12 lr=0.02"
    )
    for one in (first, second):
        kills.run(one, kills.inputs)


class Answers(BaseHTTPRequestHandler):
    """A language model that knows ten phrases of every class, and no two of them alike."""

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
        kind = next(n for n, name in enumerate(("dogwood", "cedar", "birch", "ash")) if name in asked)
        text = json.dumps({"look_alikes": ["elm"], "phrases": [f"bark of kind {kind}, shade {i}" for i in range(10)]})
        message = {"role": "assistant", "content": text}
        answer = {"choices": [{"index": 0, "finish_reason": "stop", "message": message}]}
        data = json.dumps({"id": "1", "object": "chat.completion", "created": 0, "model": "m", **answer}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def answering() -> Iterator[str]:
    """Yield the address of `Answers` in a process of its own."""
    server = HTTPServer(("127.0.0.1", 0), Answers)
    process = multiprocessing.get_context("fork").Process(target=server.serve_forever, daemon=True)
    process.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    process.kill()
    server.server_close()


def left(at: Path) -> dict[str, Any]:
    """What a command left, by file, without what may differ."""
    files = {p.relative_to(at).as_posix(): p for p in sorted(at.rglob("*")) if not p.name.endswith(".lock")}
    return {name: _comparable(path) if path.is_file() else "directory" for name, path in files.items()}


def _comparable(path: Path) -> Any:
    data = path.read_bytes()
    if path.suffix == ".html":
        return data.rstrip().endswith(b"</html>")
    if path.suffix != ".json":
        return data
    values = _timeless(json.loads(data))
    if path.name == "checksums.json":
        values["files"].pop("results.json", None)  # its times are of the call
    return values


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(one) for key, one in value.items() if key not in TIMES}
    return [_timeless(one) for one in value] if isinstance(value, list) else value


def _words(command: str) -> list[str]:
    """Words at spaces, but for those in brackets."""
    depth, marked = 0, ""
    for character in command:
        depth += (character == "[") - (character == "]")
        marked += "\0" if character == " " and depth else character
    return marked.split(" ")


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    return [name for name in {**one, **other} if one.get(name) != other.get(name)]


def try_scenario(
    kills: Kills, scenario: Scenario, every: int, times: int, say: Callable[[str], None] = lambda text: None
) -> dict[str, Any]:
    """Kill a scenario's command at each so-manieth change and at random moments; return counts and what differed."""
    at = kills.fresh(scenario)
    kills.run(scenario, at)
    whole = kills.fresh(scenario)
    begun = time.monotonic()
    kills.run(scenario, whole)
    took, changes, expected = time.monotonic() - begun, int((kills.place / "changes").read_text()), left(whole)
    wrong = [f"two undisturbed runs: {name}" for name in differences(left(at), expected)]
    killed = {"at_changes": 0, "at_random": 0}
    every = every if every > 0 else max(1, changes // -every)
    for n in range(every, changes + 1, every):
        at = kills.fresh(scenario)
        killed["at_changes"] += kills.run(scenario, at, kill=n)
        wrong += [f"change {n}: {fault}" for fault in _again(kills, scenario, at, expected)]
    rng = random.Random(0)
    for attempt in range(times):
        at = kills.fresh(scenario)
        for _ in range(rng.randint(1, IN_A_ROW)):
            if not kills.run(scenario, at, after=rng.uniform(0, took)):
                break
            killed["at_random"] += 1
        wrong += [f"attempt {attempt}: {fault}" for fault in _again(kills, scenario, at, expected)]
    say(f"{scenario.name}: {changes} changes, killed {killed}, {len(wrong)} wrong")
    return {"changes": changes, **killed, "random_attempts": times, "files": len(expected), "wrong": wrong}


def _again(kills: Kills, scenario: Scenario, at: Path, expected: dict[str, Any]) -> list[str]:
    """Give the command to its end; return what is not as it should be."""
    try:
        kills.run(scenario, at)
    except RuntimeError as error:
        return [str(error)[-300:]]
    return differences(left(at), expected)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(one.name for one in SCENARIOS))
    parser.add_argument("--every", type=int, default=1, help="each so-manieth change; of a negative number, so many")
    parser.add_argument("--random", type=int, default=20, help="attempts at random moments")
    parser.add_argument("--json", action="store_true", help="write results/kill.json")
    options = parser.parse_args()
    chosen = [one for one in SCENARIOS if not options.names or one.name in options.names]
    with tempfile.TemporaryDirectory(prefix="kill-") as place, answering() as server:
        kills = Kills(Path(place).resolve())
        kills.server = server
        found = {one.name: try_scenario(kills, one, options.every, options.random, print) for one in chosen}
    for name, one in found.items():
        for line in one["wrong"][:10]:
            print(f"{name}: {line}")
    if options.json:
        write(RESULTS / "kill.json", head(commands=found))
    return int(any(one["wrong"] for one in found.values()))


if __name__ == "__main__":
    sys.exit(main())
