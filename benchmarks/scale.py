"""How planning, measuring, pages and exports grow with classes and images a class, up to the size of ImageNet-1K.

    python benchmarks/scale.py [--only PART ...] [--before CHECKOUT] [--scratch DIR] [--whole]

A synthetic set of ImageNet's classes (a few small files, hard-linked 1,300 times a class), toy models, finished runs
written by hand: what is measured is concord, not a network. Each measurement is a process of its own with one thread;
`cpu` is its processor time in seconds, start included; `peak_mb` the most memory that it held; `own_mb` what of that
came after the libraries were loaded. `--before` measures another checkout's package by the same script, each part right
before that of this one: so both have the same load beside them. `--whole` adds the sizes that take more than a minute
each. The scratch directory needs 1.5 million inodes and 2 GB; it is kept, for the next
call, and may be removed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

RESULT = Path(__file__).parent / "results" / "scale.json"
LINKS = 50_000
"""Hard links to one file; ext4 allows 65,000."""
WIDTH = 768
"""Numbers in an embedding of the toy encoder: as many as of CLIP ViT-L/14."""
PHRASES = ("a long tail", "dark stripes", "a round head", "short legs", "a glossy surface")
SIZES: dict[str, list[tuple[int, ...]]] = {
    "dry_run": [(100, 1300), (1000, 130), (1000, 1300)],
    "dry_run_generated": [(1000, 1300)],
    "plan": [(10, 10_000), (100, 10_000), (1000, 10_000), (1000, 50_000)],
    "replace": [(5_000, 50), (50_000, 50)],
    "measure": [(200, 2), (200, 5)],
    "measure_small": [(1000, 10)],
    "page": [(1000, 5), (1000, 50)],
    "compare": [(1000, 5), (1000, 50)],
    "export_folder": [(1000, 5), (1000, 50)],
    "export_webdataset": [(1000, 5), (1000, 50)],
    "export_parquet": [(1000, 5), (1000, 50)],
}
"""What is measured: parts, and their sizes (see `PARTS`)."""
WHOLE: dict[str, list[tuple[int, ...]]] = {
    "plan": [(1000, 200_000)],
    "measure": [(200, 20), (1000, 50)],
    "measure_small": [(1000, 50)],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    parser.add_argument("--before", type=Path, metavar="CHECKOUT", help="measure it, too")
    parser.add_argument("--scratch", type=Path, default=Path("/tmp/concord-scale"))
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--inside", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        first, *others = options.inside
        if first == "prepare":
            prepare(others[0], options.scratch, tuple(map(int, others[1:])))
        else:
            inside(first, options.scratch, *map(int, others))
        return
    record = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else {}
    sources = {"before": options.before} if options.before else {}
    sources["after"] = Path(__file__).parents[1]
    for part in options.only:
        for size in SIZES[part] + (WHOLE.get(part, []) if options.whole else []):
            said = f"{part} {' x '.join(map(str, size))}"
            for name, source in sources.items():
                found = measured(options.scratch, source, part, size)
                print(f"{name}: {said}: {json.dumps(found)}", flush=True)
                record.setdefault("figures", {}).setdefault(said, {})[name] = found
    sys.path.insert(0, str(Path(__file__).parent))
    from record import head, write

    figures = record.get("figures", {})
    write(RESULT, {**head("scale.py", "1 thread"), "figures": figures}, {str(options.scratch): "SCRATCH"})


def measured(scratch: Path, source: Path, part: str, size: tuple[int, ...]) -> dict[str, Any]:
    """Run one measurement of a checkout's package in a process of its own."""
    threads = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    environment = {**os.environ, **threads, "PYTHONPATH": str(source / "src"), "HF_HUB_OFFLINE": "1"}
    # What is read is made in a process of its own, too: a child begins with the most memory that its parent had.
    for first in ("prepare", part):
        sizes = map(str, size) if first == part else (part, *map(str, size))
        words = [sys.executable, __file__, "--scratch", str(scratch), "--inside", first, *sizes]
        ended = subprocess.run(words, env=environment, capture_output=True, text=True)
        if ended.returncode:
            raise SystemExit(f"{part} {size}: {ended.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    if part in ("page", "compare"):
        found |= opened(Path(found.pop("file")))
    return found


def inside(part: str, scratch: Path, *size: int) -> None:
    """Measure one part in this process, and print what came of it as JSON."""
    work = PARTS[part]
    begun, base = used(), peak()
    found = work(scratch, *size) or {}
    base = found.pop("base", base)
    figures = {"cpu": round(used(), 2), "peak_mb": round(peak()), "own_mb": round(peak() - base)}
    print(json.dumps({**figures, **found, "work_cpu": round(used() - begun, 2)}))


def used() -> float:
    """Processor time in seconds of this process and those that it started and waited for."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def peak() -> float:
    """The most memory in MB that this process has held, or one that it started."""
    own = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return max(int(own.split()[1]), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024


# --- what is made -----------------------------------------------------------------------------------------------------


def prepare(part: str, scratch: Path, size: tuple[int, ...]) -> None:
    """Make what a part reads, where it is not there yet."""
    classes, second = size
    if part.startswith("dry_run"):
        image_folder(scratch, classes, second)
    elif part == "measure":
        image_folder(scratch, classes, 10, (250, 188))
        models(scratch, classes)
        finished(scratch, classes, second, 256, 0)
    elif part == "measure_small":
        image_folder(small(scratch), classes, 10, (40, 32))
        models(small(scratch), classes)
        finished(small(scratch), classes, second, 32, 0)
    elif part in ("page", "compare") or part.startswith("export"):
        for seed in (0, 1) if part == "compare" else (0,):
            finished(scratch, classes, second, 64, seed)


def small(scratch: Path) -> Path:
    """Where images of a few pixels lie: they take the memory of large ones, where images are not kept."""
    (scratch / "small").mkdir(parents=True, exist_ok=True)
    return scratch / "small"


def image_folder(scratch: Path, classes: int, files: int, sides: tuple[int, int] = (64, 48)) -> Path:
    """A folder of class folders whose files are hard links to a few JPEG."""
    from concord.data.class_lists import class_list

    root = scratch / f"photos-{classes}-{files}"
    if root.exists():
        return root
    part = root.with_name(f"{root.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    links = linked(part.with_name(f"{root.name}.sources"), sides, classes * files, "jpg")
    for entry in class_list("imagenet-1k")[:classes]:
        folder = f"{part}/{entry.wnid}"
        os.makedirs(folder)
        for number in range(files):
            os.link(next(links), f"{folder}/{entry.wnid}_{number:05d}.JPEG")
    part.rename(root)
    return root


def linked(folder: Path, sides: tuple[int, int], count: int, suffix: str) -> Iterator[str]:
    """Yield `count` times one of a few files of noise, none so often that a file system refuses the link."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, sources = np.random.default_rng(0), max(4, -(-count // LINKS))
    for number in range(sources):
        coarse = Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8))
        coarse.resize(sides, Image.Resampling.BICUBIC).save(folder / f"{number}.{suffix}")
    return (f"{folder}/{number % sources}.{suffix}" for number in range(count))


def folders(classes: int) -> list[str]:
    from concord.data.class_lists import class_list

    return sorted(str(entry.wnid) for entry in class_list("imagenet-1k")[:classes])


def finished(scratch: Path, classes: int, ipc: int, side: int, seed: int) -> Path:
    """A finished run with its uninformed counterpart, its images hard links to a few files."""
    from concord.data.class_lists import by_wnid
    from concord.plan import sample_seed
    from concord.recipe import HEADER, to_yaml, validate
    from concord.storage.checksums import sum_of_file

    out = scratch / f"run-{classes}-{ipc}-{side}-{seed}"
    if out.exists():
        return out
    part = out.with_name(f"{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    rng, labels = np.random.default_rng(seed), folders(classes)
    links = linked(out.with_name(f"{out.name}.sources"), (side, side), 2 * classes * ipc, "png")
    sums, details, near = dict[str, Any](), dict[str, Any](), dict[str, Any]()
    for variant in ("images", "uninformed"):
        rows = []
        for label, folder in enumerate(labels):
            name = by_wnid()[folder].name
            os.makedirs(part / variant / folder)
            for index in range(ipc):
                file, source = f"{folder}/{index:05d}.png", next(links)
                os.link(source, part / variant / file)
                if source not in sums:
                    sums[source] = sum_of_file(Path(source))
                row: dict[str, Any] = {"file_name": file, "label": label, "class_name": name, "index": index}
                row |= {"seed": sample_seed(seed, folder, index), "prompt": f"a photo of {name}"}
                row["positives"] = [f"{name} with {phrase}" for phrase in PHRASES[:3]]
                others = [labels[int(c)] for c in rng.integers(0, classes, 5)]
                row["negatives"] = [f"{by_wnid()[other].name} with {PHRASES[k]}" for k, other in enumerate(others)]
                row |= {"source": f"{folder}/{folder}_00000.JPEG", "checkpoint": ""}
                rows.append({**row, "scores": {"uninformed_steps": 0, "objective": float(label % 7)}, **sums[source]})
                shares = rng.uniform(0, 1, 3).round(3).tolist()
                details[f"{variant}/{file}"] = [
                    {"phrase": phrase, "similarity": 0.3, "percentile": share, "likely_missing": share < 0.25}
                    for phrase, share in zip(PHRASES, shares, strict=False)
                ]
                near[f"{variant}/{file}"] = {"nearest": row["source"], "similarity": round(float(rng.uniform()), 4)}
                near[f"{variant}/{file}"] |= {"same_pixels": False, "same_as_condition": False, "flagged": False}
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (part / variant / "metadata.jsonl").write_text(text, encoding="utf-8")
    values = {"method": "dit", "data": str(scratch), "ipc": ipc, "seed": seed, "uninformed": True, "name": "scale"}
    (part / "recipe.yaml").write_text(HEADER + to_yaml(validate({**values, "concepts": {"bank": "imagenet"}})))
    summary = {"mean": 0.9, "complete": 0.5, "foreign": 0.1, "n": classes * ipc}
    gain = {"mean": 0.1, "ci95": [0.05, 0.15]}
    written: dict[str, dict[str, Any]] = {
        "results": {
            **{"recipe": "scale", "method": "dit", "ipc": ipc, "classes": classes, "images": classes * ipc},
            **{"uninformed_steps": 0, "seconds": 1.0, "seconds_per_image": 0.1, "images_per_second": 10.0},
            "completeness": {"informed": summary, "uninformed": summary, "real": summary, "gain": gain},
            "last_call": {"made": classes * ipc, "kept": 0},
        },
        "details": {"encoder": "toy", "missing_below": 0.25, "images": details},
        "near_copies": {
            "encoder": "toy",
            "real_images_a_class": 200,
            "threshold": {},
            "images": near,
            "duplicates": [],
        },
        "environment": {"concord": "0", "device": "cpu", "packages": {}, "data": {"images": 20 * classes}},
        "concepts": concepts(classes),
    }
    for name, content in written.items():
        (part / f"{name}.json").write_text(json.dumps({"schema": 1, **content}, indent=2, ensure_ascii=False))
    part.rename(out)
    return out


def concepts(classes: int) -> dict[str, Any]:
    """What concepts.json holds: of five phrases a class, three are kept; few are of two classes."""
    from concord.data.class_lists import by_wnid

    table = {}
    for label, folder in enumerate(folders(classes)):
        rated = [
            {"phrase": f"{phrase} of kind {label}", "activation": 0.3 - 0.01 * k, "kept": k < 3, "pinned": False}
            for k, phrase in enumerate(PHRASES)
        ]
        table[folder] = {"class_name": by_wnid()[folder].name, "concepts": rated}
    cosine = np.random.default_rng(0).uniform(-0.05, 1, (classes, classes)).round(4)
    similarity = {"classes": [one["class_name"] for one in table.values()], "cosine": cosine.tolist()}
    return {"bank": "imagenet", "encoder": "toy", "classes": table, "similarity": similarity}


def models(scratch: Path, classes: int) -> Path:
    """A toy image-text encoder and a toy teacher of the classes."""
    import torch
    from transformers import CLIPConfig, CLIPModel, ResNetConfig, ResNetForImageClassification

    from concord.data.class_lists import by_wnid
    from concord.reef.models import TEXT_LENGTH, preprocessor_config, tokenizer

    folder = scratch / f"models-{classes}"
    if folder.exists():
        return folder
    torch.manual_seed(0)
    words, folder = tokenizer(), folder.with_name(f"{folder.name}.part")
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {"vocab_size": len(words), "max_position_embeddings": TEXT_LENGTH}
    text |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 3}
    vision = {"image_size": 32, "patch_size": 8}
    CLIPModel(CLIPConfig(text_config=shape | text, vision_config=shape | vision, projection_dim=WIDTH)).save_pretrained(
        folder / "clip"
    )
    words.save_pretrained(folder / "clip")
    named = {label: by_wnid()[wnid].name for label, wnid in enumerate(folders(classes))}
    ResNetForImageClassification(
        ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic", id2label=named)
    ).save_pretrained(folder / "teacher")
    sides = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    for name in ("clip", "teacher"):
        config = json.dumps(preprocessor_config() | sides)
        (folder / name / "preprocessor_config.json").write_text(config)
    folder.rename(scratch / f"models-{classes}")
    return scratch / f"models-{classes}"


# --- what is measured -------------------------------------------------------------------------------------------------


def dry_run(scratch: Path, classes: int, files: int) -> None:
    """`concord distill --dry-run` of a uniform choice of 50 images a class."""
    _dry_run(scratch / f"photos-{classes}-{files}", "method=random")


def dry_run_generated(scratch: Path, classes: int, files: int) -> None:
    """The same of a generated set, whose models are not on this machine."""
    _dry_run(scratch / f"photos-{classes}-{files}", "method=dit")


def _dry_run(data: Path, method: str) -> None:
    words = ["distill", "photos", f"data={data}", method, "ipc=50", "--out", str(data.parent / "nowhere"), "--dry-run"]
    subprocess.run([sys.executable, "-m", "concord.cli", *words, "--json"], check=True, stdout=subprocess.DEVNULL)


class Photographs:
    """A data set of many classes that reads nothing: 1,300 references a class, as a folder has them once it is open."""

    known_details = None
    notes: tuple[str, ...] = ()
    fingerprint = "photographs"

    def __init__(self, classes: int) -> None:
        from concord.data import ClassSpec, class_table

        self.classes = class_table(ClassSpec(folder) for folder in folders(classes))
        keys = [entry.key for entry in self.classes]
        self._items = [[f"{key}/{key}_{number:05d}.JPEG" for number in range(1300)] for key in keys]

    def items(self, class_index: int) -> list[str]:
        return self._items[class_index]


def plan(scratch: Path, classes: int, samples: int) -> dict[str, Any]:
    """Plan a generated set that is informed by concepts, with condition images and prompts, into an empty store."""
    from concord.methods.diffusion import Generate
    from concord.recipe import validate
    from concord.runs.store import Store
    from concord.workflows.distill import pending

    data: Any = Photographs(classes)
    recipe = validate({"method": "unclip", "data": "x", "ipc": samples // classes, "concepts": {"bank": "imagenet"}})
    method = Generate(recipe, data)
    known = concepts(classes)
    method.resume(known)
    method.concepts.similarity = np.array(known["similarity"]["cosine"])  # in the place of an encoder's
    counts = [samples // classes] * classes
    place = scratch / "empty" / "images"
    shutil.rmtree(place, ignore_errors=True)
    base, begun = peak(), time.process_time()
    found = sum(len(job.keep) for job in pending(method, counts, data.classes, {"images": Store(place, recipe.format)}))
    return {"base": base, "samples": found, "ms_a_sample": round(1e3 * (time.process_time() - begun) / found, 3)}


def replace(scratch: Path, rows: int, replaced: int) -> dict[str, Any]:
    """Store images anew of which a manifest has other rows: planned otherwise then."""
    from dataclasses import replace as changed

    from concord.data import ClassSpec, class_table
    from concord.plan import Sample
    from concord.recipe import Format
    from concord.runs.store import Store

    place = scratch / f"replace-{rows}" / "images"
    shutil.rmtree(place, ignore_errors=True)
    table = class_table(ClassSpec(f"c{label:04d}") for label in range(1000))
    store, source = Store(place, Format()), next(linked(scratch / "replace.sources", (32, 32), 1, "png"))
    data, texts = Path(source).read_bytes(), tuple(f"a class with {phrase}" for phrase in PHRASES)
    samples = [Sample(n % 1000, n // 1000, n, texts, texts, prompt="a photo of a class") for n in range(rows)]
    store.rows = {sample.place: {**store._planned(sample, table[sample.class_index])} for sample in samples}
    begun, otherwise = time.process_time(), samples[:: rows // replaced][:replaced]
    if hasattr(store, "drop"):  # as a run does before it makes them; earlier, each row went as its image came
        store.drop([sample.place for sample in otherwise])
    for sample in otherwise:
        store.add(changed(sample, prompt="another"), table[sample.class_index], data, {})
    store.finish()
    return {"seconds": round(time.process_time() - begun, 2)}


def measure_small(scratch: Path, classes: int, ipc: int) -> dict[str, Any]:
    """The same of images of 32 pixels."""
    return measure(small(scratch), classes, ipc, 32)


def measure(scratch: Path, classes: int, ipc: int, side: int = 256) -> dict[str, Any]:
    """All measures of a finished run with a teacher and percentiles."""
    from concord.concepts.plan import ConceptPlan
    from concord.data import open_data
    from concord.metrics.measure_run import Measuring
    from concord.models.cache import ModelCache
    from concord.recipe import validate

    folder, out = scratch / f"models-{classes}", scratch / f"run-{classes}-{ipc}-{side}-0"
    values = {
        "data": str(scratch / f"photos-{classes}-10"),
        "ipc": ipc,
        "uninformed": True,
        "encoder": f"{folder}/clip",
    }
    values |= {"concepts": {"bank": "imagenet"}, "teacher": f"{folder}/teacher", "scorer": {"kind": "percentile"}}
    recipe = validate(values)
    data, models = open_data(recipe.data), ModelCache(recipe)
    plan = ConceptPlan(recipe, data, models)
    plan.resume(concepts(classes))
    _ = models.encoder.texts(["a photo"])
    base = peak()
    results = Measuring(recipe, data, out, ("images", "uninformed"), models, plan).results()
    return {"base": base, "measures": len(results)}


def page(scratch: Path, classes: int, ipc: int) -> dict[str, Any]:
    """Write the page of a finished run."""
    from concord.report.page import write_report

    out = write_report(scratch / f"run-{classes}-{ipc}-64-0")
    return {"file": str(out), "page_mb": round(out.stat().st_size / 1e6, 2)}


def compare(scratch: Path, classes: int, ipc: int) -> dict[str, Any]:
    """Compare two finished runs, and write the page of it."""
    runs = [str(scratch / f"run-{classes}-{ipc}-64-{seed}") for seed in (0, 1)]
    out = scratch / "compare.html"
    words = [sys.executable, "-m", "concord.cli", "compare", *runs, "--out", str(out)]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return {"file": str(out), "page_mb": round(out.stat().st_size / 1e6, 2)}


def exported(layout: str) -> Callable[..., dict[str, Any]]:
    def work(scratch: Path, classes: int, ipc: int) -> dict[str, Any]:
        from concord.export import export

        target = scratch / "export"
        shutil.rmtree(target, ignore_errors=True)
        result = export(scratch / f"run-{classes}-{ipc}-64-0", layout, target)
        shutil.rmtree(target)
        return {"images": result.images}

    return work


PARTS: dict[str, Callable[..., dict[str, Any] | None]] = {
    "dry_run": dry_run,
    "dry_run_generated": dry_run_generated,
    "plan": plan,
    "replace": replace,
    "measure": measure,
    "measure_small": measure_small,
    "page": page,
    "compare": compare,
    **{f"export_{layout}": exported(layout) for layout in ("folder", "webdataset", "parquet")},
}


def opened(file: Path) -> dict[str, Any]:
    """What a headless browser takes until a page's first images are drawn; nothing without one.

    open_seconds: by the clock; other work waits meanwhile where the system lets (`first_in_line`). open_cpu: processor
    time of all its processes, less that of an empty page.
    """
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        return {}
    from playwright.sync_api import sync_playwright

    with first_in_line(), sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        tab = started.new_page()
        tab.set_content("<img alt='' src='data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA='>")
        before, begun = of_descendants(), time.perf_counter()
        tab.goto(file.as_uri(), wait_until="commit", timeout=120_000)
        tab.wait_for_selector("img", state="visible", timeout=120_000)
        seconds, cpu = time.perf_counter() - begun, of_descendants() - before
        started.close()
    return {"open_seconds": round(seconds, 2), "open_cpu": round(cpu, 2)}


@contextmanager
def first_in_line() -> Iterator[None]:
    """Have what begins here go before all other work, where the system lets; or a clock says nothing."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except OSError:
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def of_descendants() -> float:
    """Processor time in seconds of all living processes below this one."""
    parents, times = dict[int, int](), dict[int, int]()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        parents[int(path.parent.name)], times[int(path.parent.name)] = int(fields[1]), sum(map(int, fields[11:13]))

    def below(process: int) -> bool:
        while process in parents and process != os.getpid():
            process = parents[process]
        return process == os.getpid()

    ticks = sum(time for process, time in times.items() if process != os.getpid() and below(process))
    return ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
