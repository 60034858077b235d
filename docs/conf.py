"""The site, by Sphinx: the README, the guides and the records as they are, and a reference made from docstrings.

`make docs` builds it into build/site. Any warning ends it: a page or a heading that a link names and that is not there,
a page that nothing leads to, a docstring that cannot be read.

Sphinx with MyST and furo: the pages stay plain Markdown, docstrings become pages that link to each other, the search
needs no server, and all three have been kept for many years. Zensical, which follows mkdocs-material, is in its first
year, and has docstrings only by the plugins of what it replaces.
"""

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "concord"

NAVIGATION = {
    "Begin": ["install", "photos", "../examples/README", "python", "report", "compare", "evaluation", "export"],
    "Make": ["recipe", "pipelines", "concepts", "methods", "coresets", "finetune", "convert", "cluster"],
    "The method": ["informing", "better-set", "equations", "paper", "reproduce", "findings", "reef"],
    "To carry on": [
        "architecture",
        "extend",
        "formats",
        "../CONTRIBUTING",
        "../benchmarks/README",
        "../SECURITY",
        "../CHANGELOG",
    ],
}
"""The pages by headings, beside the README, which is the first; `tests/test_site.py` finds one that is left out."""

project, html_title = "concord", "concord"
author, copyright = "the concord authors", "the concord authors, Apache-2.0"
root_doc = "README"
include_patterns = ["*.md", "benchmarks/README.md", "examples/README.md", "docs/**.md"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 3
html_theme = "furo"
html_show_sphinx = False
html_copy_source = False
html_static_path = [str(ROOT / "docs" / "site.css")]
html_css_files = ["site.css"]

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False


def rooms() -> dict[str, list[str]]:
    """The modules of the package by their rooms, as the reference has a page each."""
    found: dict[str, list[str]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE.parent).with_suffix("").parts
        if path in (SOURCE / "__init__.py", SOURCE / "moved.py") or SOURCE / "cli" in path.parents:
            continue
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        found.setdefault(parts[1], []).append(".".join(parts))
    return found


def write_reference() -> None:
    """Write the reference's pages, which ask for docstrings, into docs/reference; they are no part of the project."""
    folder = ROOT / "docs" / "reference"
    folder.mkdir(exist_ok=True)
    pages = rooms()
    for path in folder.glob("*.md"):
        if path.stem not in {*pages, "index"}:
            path.unlink()  # of a room that is no more
    for room, modules in pages.items():
        blocks = "\n".join(
            f"## {name}\n\n```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n   :ignore-module-all:\n```\n"
            for name in modules
        )
        _write(folder / f"{room}.md", f"# {room}\n\n{blocks}")
    names = "\n".join(f"- {{py:obj}}`concord.{place}`" for place in sorted(front_door().values()))
    text = "Every public name, from its docstring. [architecture](../architecture.md) says what the rooms are for."
    rooms_of = "\n".join(sorted(pages))
    toctree = f"```{{toctree}}\n:maxdepth: 1\n\n{rooms_of}\n```"
    door = f"## Names of `import concord`\n\nAt work in [the library](../python.md).\n\n{names}"
    _write(folder / "index.md", f"# Reference\n\n{text}\n\n{door}\n\n## Rooms\n\n{toctree}\n")


def front_door() -> dict[str, str]:
    """Where each name of `import concord` lies, below `concord`."""
    import concord

    found = {name: getattr(concord, name) for name in concord.__all__ if not name.startswith("__")}
    return {name: f"{of.__module__.removeprefix('concord.')}.{of.__qualname__}" for name, of in found.items()}


def _write(path: Path, text: str) -> None:
    if not path.is_file() or path.read_text(encoding="utf-8") != text:  # or Sphinx would read it anew
        path.write_text(text, encoding="utf-8")


def lead_on(app: Any, page: str, source: list[str]) -> None:
    """Give the first page the navigation that the site has beside it."""
    if page == root_doc:
        for heading, names in {**NAVIGATION, "Reference": ["reference/index"]}.items():
            pages = "\n".join(name.removeprefix("../") if name[:2] == ".." else f"docs/{name}" for name in names)
            source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {heading}\n\n{pages}\n```\n"


def as_rst(app: Any, what: str, name: str, of: object, options: Any, lines: list[str]) -> None:
    """Turn a docstring, as they are written here, into what Sphinx reads.

    An indented paragraph is an example, lines that begin with a name and a colon are a list of arguments, and what
    stands in single backticks is a name or code. Sections (`Args:`) are left to napoleon.
    """
    out: list[str] = []
    in_section = False
    for lines_of in "\n".join(lines).strip("\n").split("\n\n"):
        part = lines_of.splitlines()
        heads = [line for line in part if not line.startswith(" ")]
        if not heads and not in_section:
            out += [".. code-block:: python", "", *part, ""]
            continue
        if heads:
            in_section = heads[0] in _SECTIONS
        text = [_marked(line) for line in part]
        if not in_section and len(part) > 1 and all(map(_ARGUMENT.match, heads)):
            text = [f"  {line.strip()}" if line.startswith(" ") else f"* {line}" for line in text]
        out += [*text, ""]
    lines[:] = out


_SECTIONS = ("Args:", "Raises:", "Returns:", "Yields:", "Attributes:")
_ARGUMENT = re.compile(r"(Raises )?[A-Za-z_]\w*(, [A-Za-z_]\w*)*: ")
_CODE = re.compile(r"``.+?``|`([^`]+)`")


def _marked(line: str) -> str:
    """A line with its code marked, and with nothing else in it that would be markup."""
    out, end = "", 0
    for found in _CODE.finditer(line):
        out += re.sub(r"([*|])", r"\\\1", line[end : found.start()])
        name = found[1] or ""
        code = f":py:obj:`{name}`" if re.fullmatch(r"[A-Za-z_][\w.]*", name) else f"``{name}``"
        out += found[0] if found[1] is None else code
        end = found.end()
        out += "\\ " if line[end : end + 1].isalnum() else ""
    return out + re.sub(r"([*|])", r"\\\1", line[end:])


def first_page(app: Any, failed: Exception | None) -> None:
    """Have the site open with the README."""
    page = Path(app.outdir) / f"{root_doc}.html"
    if failed is None and page.is_file():
        (Path(app.outdir) / "index.html").write_bytes(page.read_bytes())


def setup(app: Any) -> None:
    write_reference()
    app.connect("source-read", lead_on)
    app.connect("autodoc-process-docstring", as_rst, priority=400)
    app.connect("build-finished", first_page)
