"""The README's Python example runs as it stands."""

import re
from pathlib import Path

import torch

README = Path(__file__).parent.parent / "README.md"


def test_the_library_example() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    names: dict[str, torch.Tensor] = {}
    exec(compile(code.replace("steps=50", "steps=3"), "README.md", "exec"), names)
    assert names["images"].shape == (2, 3, 64, 64)
    assert names["images"].isfinite().all()
