"""The Python examples of the README and the docs run as they stand."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = [
    pytest.param(code, id=f"{page.name}-{number}")
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for number, code in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S), 1)
]


@pytest.mark.parametrize("code", EXAMPLES)
def test_the_example_makes_images(code: str) -> None:
    short = re.sub(r"steps=50", "steps=3", code)
    assert short != code
    names: dict[str, object] = {}
    exec(compile(short, "example.md", "exec"), names)
    images = names["images"]
    assert len(images) in (1, 2)  # type: ignore[arg-type]
    if hasattr(images, "isfinite"):
        assert images.shape[1:] == (3, 64, 64)
        assert images.isfinite().all()
