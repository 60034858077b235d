"""Runs for the page's tests, written by hand in the formats that `concord distill` leaves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

NEGATIVES = 2


def make_run(
    out: Path,
    names: Sequence[str],
    ipc: int = 2,
    phrases: Sequence[str] = ("a forked tail", "dark bars", "an orange snout"),
    paired: bool = True,
    side: int = 12,
    **files: dict[str, Any],
) -> Path:
    """A finished run of `names`, folders f0, f1, ...; percentiles are drawn, informed ones higher by and large.

    `files`: what to put into further JSON files, or in place of those that are written here.
    """
    rng = np.random.default_rng(0)
    details: dict[str, Any] = {}
    colours = [rng.integers(0, 255, (side, side, 3), dtype=np.uint8) for _ in range(4)]
    for variant in ("images", "uninformed") if paired else ("images",):
        rows = []
        for label, name in enumerate(names):
            (out / variant / f"f{label}").mkdir(parents=True, exist_ok=True)
            for index in range(ipc):
                file = f"f{label}/{index:05d}.png"
                pixels = colours[(label + index + len(variant)) % 4]
                Image.fromarray(pixels).save(out / variant / file, compress_level=0)
                rows.append(
                    {
                        "file_name": file,
                        "label": label,
                        "class_name": name,
                        "index": index,
                        "seed": 2**47 + 1000 * label + index,
                        "positives": [f"{name} with {phrase}" for phrase in phrases],
                        "negatives": [
                            f"{names[(label + 1 + k) % len(names)]} with {phrases[k % len(phrases)]}"
                            for k in range(NEGATIVES if phrases else 0)
                        ],
                        "prompt": f"a photo of {name}",
                        "source": f"{name}/source.jpg",
                        "checkpoint": "",
                        "scores": {},
                    }
                )
                low = 0.0 if variant == "uninformed" else 0.15
                if phrases:
                    details[f"{variant}/{file}"] = [
                        {"phrase": p, "similarity": 0.3, "percentile": round(float(rng.uniform(low, 1)), 3)}
                        for p in phrases
                    ]
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (out / variant / "metadata.jsonl").write_text(text, encoding="utf-8")
    n = len(names) * ipc
    sets = {
        "informed": {"mean": 0.8861, "complete": 0.5312, "foreign": 0.04, "n": n},
        "uninformed": {"mean": 0.7579, "complete": 0.2149, "foreign": 0.05, "n": n},
        "real": {"mean": 0.7334, "complete": 0.21, "foreign": 0.111, "n": 1000},
    }
    gain = {"mean": 0.1282, "ci95": [0.0981, 0.1577]}
    written = {
        "results": {
            "recipe": "made",
            "method": "dit",
            "ipc": ipc,
            "classes": len(names),
            "images": n,
            "made": n,
            "kept": 0,
            "uninformed_steps": 3,
            "seconds": 61.04,
            "seconds_per_image": 0.6104,
            "completeness": sets | {"gain": gain} if paired else {"informed": sets["informed"]},
        },
        "details": {"encoder": "some/encoder", "missing_below": 0.25, "images": details},
        "concepts": {
            "bank": "made",
            "encoder": "some/encoder",
            "classes": {
                f"f{label}": {
                    "class_name": name,
                    "concepts": [
                        {"phrase": p, "activation": 0.6 - 0.2 * k, "kept": k < 2, "pinned": False}
                        for k, p in enumerate(phrases)
                    ],
                }
                for label, name in enumerate(names)
            },
            "similarity": {
                "classes": list(names),
                "cosine": [[round(1 / (1 + abs(a - b)), 4) for a in range(len(names))] for b in range(len(names))],
            },
        },
        "environment": {"concord": "0.1.0", "device": "cpu", "packages": {"torch": "2.9"}, "data": {"images": 9}},
        **files,
    }
    for name, values in written.items():
        text = json.dumps({"schema": 1, **values}, ensure_ascii=False)
        (out / f"{name}.json").write_text(text, encoding="utf-8")
    (out / "recipe.yaml").write_text(
        "name: made\nmethod: dit\ndata: photos\nencoder: some/encoder\npipeline: {steps: 50}\n"
        "informing: {enabled: true, mode: fast, window: [0.4, 0.9]}\n"
    )
    return out
