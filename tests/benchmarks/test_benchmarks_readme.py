"""benchmarks/README.md has every script, and names results that are there."""

import json
import re
from pathlib import Path

import pytest
import record
from evaluation_tables import TABLES

FOLDER = Path(record.__file__).parent
PAGE = (FOLDER / "README.md").read_text(encoding="utf-8")


def test_every_script_is_named() -> None:
    assert {path.name for path in FOLDER.glob("*.py")} <= set(re.findall(r"`(\w+\.py)`", PAGE))


def test_every_result_is_named() -> None:
    named = re.sub("TABLE", f"({'|'.join(TABLES)})", "|".join(re.findall(r"`(\w+\.json)`", PAGE)))
    for path in (FOLDER / "results").glob("*.json"):
        assert re.fullmatch(named.replace("CARD", ".+"), path.name), path.name


def test_a_record_says_what_made_it_and_names_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", [f"{tmp_path}/here/one.py", "--data", f"{tmp_path}/pictures"])
    record.write(tmp_path / "new" / "one.json", record.head(None, "1 thread", seeds=[0]), {str(tmp_path): "WORK"})
    values = json.loads((tmp_path / "new" / "one.json").read_text())
    assert values["command"] == "python benchmarks/one.py --data WORK/pictures"
    assert values["machine"].endswith("CPU cores, 1 thread")
    assert list(values) == ["schema", "command", "machine", "concord", "torch", "seeds"]
