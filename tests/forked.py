"""Processes of their own that need not import anything again: forked from one that has imported, and done nothing else.

A fresh process takes seconds to import what a command needs. What these share with one is all but that: its arguments,
environment, directory, output and exit code are its own, and nothing of the tests' process is in it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

HEAVY = """
import matplotlib.pyplot, sklearn.manifold, torch, torchvision.transforms.v2
from diffusers import AutoencoderKL, AutoencoderTiny, DDIMScheduler, DDPMScheduler, DiTPipeline, DiTTransformer2DModel
from transformers import AutoConfig, CLIPModel, CLIPTokenizerFast, ResNetForImageClassification
import concord.cli.commands, concord.evaluation.evaluate, concord.export.write, concord.methods.diffusion
import concord.metrics.completeness, concord.metrics.copies, concord.metrics.details, concord.metrics.embeddings
import concord.report.compare_page, concord.report.page, concord.workflows.distill, concord.workflows.draw
"""
SERVER = """
import json, os, runpy, sys, traceback

def child(job):
    os.chdir(job["where"])
    os.environ.update(job["environment"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(job[name], os.O_WRONLY | os.O_APPEND), number)
    try:
        if job["arguments"][0] == "-c":
            exec(compile(job["arguments"][1], "-c", "exec"), {"__name__": "__main__"})
        else:
            sys.argv = job["arguments"][1:]
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0

answers = os.fdopen(os.dup(1), "w")
for line in iter(sys.stdin.readline, ""):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = child(json.loads(line))
            sys.stdout.flush(), sys.stderr.flush()
        finally:
            os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), file=answers, flush=True)
"""


class Forked:
    """Runs `python ARGUMENTS`, with ``-m MODULE ...`` or ``-c CODE``; `first` is code that runs before all of them."""

    def __init__(self, environment: Mapping[str, str] | None = None, first: str = "") -> None:
        self._server: subprocess.Popen[str] | None = None
        self._start = [sys.executable, "-c", HEAVY + first + SERVER]
        self._environment = {**os.environ, **(environment or {})}

    def __call__(self, *arguments: str, where: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        if self._server is None:
            pipe = subprocess.PIPE
            self._server = subprocess.Popen(self._start, stdin=pipe, stdout=pipe, text=True, env=self._environment)
        assert self._server.stdin is not None and self._server.stdout is not None
        with tempfile.TemporaryDirectory() as folder:
            files = {name: os.path.join(folder, name) for name in ("stdout", "stderr")}
            for file in files.values():
                Path(file).touch()
            job = {"arguments": arguments, "where": str(where), "environment": environment, **files}
            self._server.stdin.write(json.dumps(job) + "\n")
            self._server.stdin.flush()
            code = int(self._server.stdout.readline())
            texts = {name: Path(file).read_text(encoding="utf-8") for name, file in files.items()}
        return subprocess.CompletedProcess(arguments, code, **texts)

    def __enter__(self) -> Forked:
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if self._server is not None:
            self._server.communicate()  # its input ends, and with it the process
