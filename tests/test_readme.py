"""The Python examples of the README and the docs run as they stand, but for the number of steps."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = [
    pytest.param(code, id=f"{page.name}-{number}")
    for page in PAGES
    for number, code in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S), 1)
    # extend.md has whole files of the example plugin, which tests/test_plugin.py installs; cluster.md wants a cluster.
    if page.name not in ("extend.md", "cluster.md")
]


@pytest.mark.parametrize("code", EXAMPLES)
def test_the_example_runs(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    short = code.replace("steps=50", "steps=3").replace("ipc=1)", 'ipc=1, pipeline={"steps": 3})')
    assert short != code
    names: dict[str, object] = {}
    exec(compile(short, "example.md", "exec"), names)
    images = names.get("images")
    if images is None:
        assert names["run"].results["images"] > 0  # type: ignore[attr-defined]
        return
    assert len(images) in (1, 2)  # type: ignore[arg-type]
    if hasattr(images, "isfinite"):
        assert images.shape[1:] == (3, 64, 64)
        assert images.isfinite().all()
