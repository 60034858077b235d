"""Does a set that is made on a cluster, by several workers or in shards tell how often they were killed?

    python benchmarks/cluster_kills.py [cluster] [workers] [shards] [--plan photos|reef] [--kills 20] [--json]

A small set is made by one process: 300 photographs chosen and resized, or 16 informed images of reef. Then it is made
again and again, each time with SIGKILLs at random moments, until so many have hit; what each ends with is compared,
file by file, with what the one process left.

cluster: a local Ray cluster of a head without cores and three nodes of one. Killed are whole nodes (the raylet and all
its workers; another node is added), single actors, and the driver, which is then started again. workers: `workers=3`,
of which one is killed. shards: 0/4 to 3/4 at once, of which one is killed and started again; then `concord merge`.

Left out of the comparison are times, what results.json says of the last call, and the recipe's `workers`. Doubled or
lost images would show in the manifests, which are compared byte by byte.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from kill import differences, left
from PIL import Image
from record import RESULTS, head, write

PLANS = {
    "photos": ("photos", "data={photos}", "ipc=150", "size=224"),
    "reef": (
        *("reef", "classes=[coral perch,river perch]", "ipc=8", "batch_size=1", "pipeline.steps=2"),
        *("concepts.images=4", "uninformed=false", "scorer.kind=none", "teacher=null", "nuisance=null"),
    ),
}
LIMIT = 900.0
"""Seconds after which a command counts as hanging."""


class Commands:
    """Commands of one directory, each a process of its own; what they say is kept for errors."""

    def __init__(self, place: Path, plan: str) -> None:
        self.place, self.number = place, 0
        if plan == "photos":
            make_photos(place / "photos")
        self.plan = [word.format(photos=place / "photos") for word in PLANS[plan]]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "concord.cli", *arguments]
        self.number += 1
        log = open(self.place / f"log-{self.number:04d}", "w")  # noqa: SIM115 - as long as the process
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment, text=True)

    def end(self, process: subprocess.Popen[str]) -> None:
        """Wait for a process that nobody kills. Raises RuntimeError: it ended otherwise than well."""
        if process.wait(LIMIT) != 0:
            logs = sorted(self.place.glob("log-*"))[-6:]
            raise RuntimeError("\n".join(log.read_text()[-1500:] for log in logs))

    def fresh(self) -> Path:
        self.number += 1
        return self.place / f"set-{self.number:04d}"


def make_photos(folder: Path) -> None:
    """Noise of 640 x 480 in two classes: about as long to read and to write as photographs."""
    rng = np.random.default_rng(0)
    for name in ("ash", "birch"):
        (folder / name).mkdir(parents=True)
        for number in range(150):
            pixels = rng.integers(0, 255, (60, 80, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((640, 480)).save(folder / name / f"{number}.jpg", quality=95)


def comparable(out: Path) -> dict[str, Any]:
    """What a run left, but for how many workers it was asked for."""
    found = left(out)
    found["recipe.yaml"] = b"".join(line for line in found["recipe.yaml"].splitlines() if b"workers:" not in line)
    found["checksums.json"]["files"].pop("recipe.yaml", None)
    return found


def children(parent: int) -> list[int]:
    """The processes that a process started itself."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, rest = int(path.parent.name), path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(rest[1]) == parent and rest[0] != "Z":
            found.append(pid)
    return found


def titled(pids: list[int], text: str) -> list[int]:
    found = []
    for pid in pids:
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in line:
            found.append(pid)
    return found


def later(out: Path, process: subprocess.Popen[str], rng: random.Random) -> None:
    """Wait until a few more images are there, so that kills fall into the making of images: then at any moment."""
    more = rng.randint(1, 20) + count(out)
    while process.poll() is None and count(out) < more:
        time.sleep(0.05)
    time.sleep(rng.uniform(0, 0.5))


def count(out: Path) -> int:
    return sum(1 for _ in (out / "images").rglob("*.png"))


def in_cluster(commands: Commands, kills: int, expected: dict[str, Any]) -> dict[str, Any]:
    """Kill nodes, actors and drivers of runs on a cluster."""
    from ray.cluster_utils import Cluster

    logging.getLogger("ray").setLevel(logging.ERROR)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(3)]
    rng, hit, wrong, sets = random.Random(0), Counter[str](), list[str](), 0

    def raylet(node: Any) -> int:
        return int(node.all_processes["raylet"][0].process.pid)

    def kill_one(driver: subprocess.Popen[str]) -> None:
        what = rng.choices(("node", "actor", "driver"), (2, 2, 1))[0]
        if what == "node":
            node = nodes.pop(rng.randrange(len(nodes)))
            cluster.remove_node(node, allow_graceful=False)
            nodes.append(cluster.add_node(num_cpus=1, wait=False))
        elif what == "actor":
            actors = [pid for node in nodes for pid in titled(children(raylet(node)), "ray::_Worker")]
            if not actors:
                return
            os.kill(rng.choice(actors), signal.SIGKILL)
        else:
            driver.kill()
        hit[what] += 1

    try:
        while sum(hit.values()) < kills:
            out, again = commands.fresh(), True
            sets += 1
            while again:
                driver = commands.start("distill", *commands.plan, "--out", str(out), "--cluster", cluster.address)
                while driver.poll() is None and sum(hit.values()) < kills:
                    later(out, driver, rng)
                    if driver.poll() is None:
                        kill_one(driver)
                        print(f"cluster: {dict(hit)}", flush=True)
                try:
                    again = driver.wait(LIMIT) == -signal.SIGKILL
                    if not again:
                        commands.end(driver)
                        wrong += [f"set {sets}: {name}" for name in differences(comparable(out), expected)]
                except (RuntimeError, subprocess.TimeoutExpired) as error:
                    wrong.append(f"set {sets}: {str(error)[-1500:]}")
                    break
    finally:
        cluster.shutdown()
    return {"nodes": 3, "sets": sets, "killed": dict(hit), "wrong": wrong}


def of_workers(commands: Commands, kills: int, expected: dict[str, Any]) -> dict[str, Any]:
    """Kill workers of runs with `workers=3`."""
    rng, hit, wrong, sets = random.Random(1), 0, list[str](), 0
    while hit < kills:
        out, sets = commands.fresh(), sets + 1
        parent = commands.start("distill", *commands.plan, "workers=3", "--out", str(out))
        while parent.poll() is None and hit < kills:
            later(out, parent, rng)
            workers = titled(children(parent.pid), "spawn_main")
            if parent.poll() is None and workers:
                os.kill(rng.choice(workers), signal.SIGKILL)
                hit += 1
                print(f"workers: {hit}", flush=True)
        try:
            commands.end(parent)
            wrong += [f"set {sets}: {name}" for name in differences(comparable(out), expected)]
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            wrong.append(f"set {sets}: {str(error)[-1500:]}")
    return {"workers": 3, "sets": sets, "killed": {"worker": hit}, "wrong": wrong}


def in_shards(commands: Commands, kills: int, expected: dict[str, Any]) -> dict[str, Any]:
    """Kill shards, and give them again, until all are done; then merge."""
    rng, hit, wrong, sets = random.Random(2), 0, list[str](), 0
    while hit < kills:
        out, sets = commands.fresh(), sets + 1

        def start(n: int, out: Path = out) -> subprocess.Popen[str]:
            return commands.start("distill", *commands.plan, "workers=1", "--out", str(out), "--shard", f"{n}/4")

        running = {n: start(n) for n in range(4)}
        try:
            while running:
                later(out, next(iter(running.values())), rng)
                if hit < kills and running:
                    n = rng.choice(list(running))
                    if running[n].poll() is None:
                        running[n].kill()
                        running[n].wait()
                        hit += 1
                        running[n] = start(n)
                        print(f"shards: {hit}", flush=True)
                for n in [n for n, one in running.items() if one.poll() is not None]:
                    commands.end(running.pop(n))
            commands.end(commands.start("merge", str(out)))
            wrong += [f"set {sets}: {name}" for name in differences(comparable(out), expected)]
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            wrong.append(f"set {sets}: {str(error)[-1500:]}")
    return {"shards": 4, "sets": sets, "killed": {"shard": hit}, "wrong": wrong}


WAYS = {"cluster": in_cluster, "workers": of_workers, "shards": in_shards}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ways", nargs="*", metavar="WAY", help=", ".join(WAYS))
    parser.add_argument("--plan", choices=PLANS, default="photos")
    parser.add_argument("--kills", type=int, default=20, help="kills that hit, of each way")
    parser.add_argument("--json", action="store_true", help="write results/cluster_kills.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cluster-kills-") as place:
        commands = Commands(Path(place).resolve(), options.plan)
        one = commands.fresh()
        commands.end(commands.start("distill", *commands.plan, "workers=1", "--out", str(one)))
        expected, found = comparable(one), {}
        for way in options.ways or WAYS:
            begin = time.monotonic()
            found[way] = WAYS[way](commands, options.kills, expected)
            found[way]["seconds"] = round(time.monotonic() - begin)
            print(f"{way}: {found[way]}", flush=True)
    if options.json:
        name = "cluster_kills.json" if options.plan == "photos" else f"cluster_kills_{options.plan}.json"
        write(RESULTS / name, head(plan=" ".join(PLANS[options.plan]), files=len(expected), ways=found))
    return int(any(one["wrong"] for one in found.values()))


if __name__ == "__main__":
    sys.exit(main())
