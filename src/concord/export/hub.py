"""A set on the Hugging Face hub: pushed there with its record, and fetched as a run's directory again.

A push is one commit: the repository holds the set of before or the new one, whole. What a killed push had uploaded
stays with the hub, which is asked before anything is sent, so that the same call goes on from there.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

from concord.choices import TENSORS
from concord.errors import ConcordError
from concord.export import Exported, export
from concord.export.card import Shared, models_of
from concord.export.made import open_made
from concord.export.record import RECORDS, ROWS
from concord.export.write import new_directory
from concord.models.hub import UNKNOWN, licence
from concord.registry import LAYOUTS, LayoutSpec
from concord.runs.store import MANIFEST, Row, read_rows
from concord.runs.verify import damage, seal, verify
from concord.storage.atomic import disk_errors, json_line
from concord.storage.checksums import CHECKSUMS, is_inside, read_checksums, sum_of
from concord.text import listed, plain

_HUBS_OWN = frozenset({".gitattributes"})
_KEPT = ("recipe.yaml", "README.md", TENSORS, *(f"{name}.json" for name in RECORDS))
"""What a fetched run has of the repository beside its images."""


@dataclass(frozen=True)
class Pushed:
    """Where a set lies now. commit: its revision. public: whether anybody can read it."""

    url: str
    commit: str
    public: bool
    exported: Exported


@dataclass(frozen=True)
class Fetched:
    """A run's directory that was made of a repository. commit: the revision that it is of."""

    path: Path
    images: int
    commit: str


def push(
    directory: Path,
    layout: str,
    name: str,
    *,
    public: bool = False,
    agreed: Callable[[str], bool] = lambda question: False,
    shard_size: int | None = None,
) -> Pushed:
    """Put the set that `concord distill` left in `directory` into the data set repository `name` of the hub.

    Args:
        directory: a finished run.
        layout: one that can be fetched again: `folder` or `parquet`.
        name: ``ORG/NAME``; made, private, where it is not there. What holds anything but an earlier push is refused.
        public: have anybody read it; `agreed` is asked first, and only then is anything made or sent.
        agreed: answers a question with yes or no.
        shard_size: as of `concord.export.export`.

    The token is the environment's (HF_TOKEN), else that of `hf auth login`. Raises ConcordError: anything that the
    caller can put right; the same call goes on from there.
    """
    spec = _spec(layout)
    made = open_made(directory)
    token = _checked(name) and get_token()
    if not token:
        raise ConcordError("--push needs a token of the hub that may write: put one into HF_TOKEN")
    api = HfApi(token=token)
    with _hub_errors(name, token):
        before = _repository(api, name)
        files = {one.rfilename for one in before.siblings or ()} - _HUBS_OWN if before else set()
    if files and CHECKSUMS not in files:
        raise ConcordError(f"{name} holds something else ({listed(sorted(files), 3)}); give another name")
    if before and not before.private and not public:
        raise ConcordError(f"{name} is public: add --public to have anybody read this set, or give another name")
    if public and not agreed(f"Anybody will be able to read and copy {name}."):
        raise ConcordError(f"nothing was sent: {name} was not to be public; without --public it is private")
    shared = Shared(name, _stated(api, [model for model, _ in models_of(made)]))
    with tempfile.TemporaryDirectory(prefix="concord-push-") as place, _hub_errors(name, token):
        exported = export(directory, spec.name, Path(place) / "set", shard_size=shard_size, shared=shared)
        api.create_repo(name, repo_type="dataset", private=True, exist_ok=True)
        there = {p.relative_to(exported.path).as_posix(): p for p in sorted(exported.path.rglob("*")) if p.is_file()}
        commit = api.create_commit(
            name,
            [
                *(CommitOperationDelete(path_in_repo=old) for old in sorted(files - there.keys())),
                *(CommitOperationAdd(path_in_repo=at, path_or_fileobj=path) for at, path in there.items()),
            ],
            commit_message=f"{made.recipe.name}: {len(made.pictures)} images of {len(made.classes)} classes",
            repo_type="dataset",
        )
        if public and not (before and not before.private):
            api.update_repo_settings(name, repo_type="dataset", private=False)
    return Pushed(f"{api.endpoint}/datasets/{name}", str(commit.oid), public, exported)


def fetch(name: str, target: Path, revision: str | None = None) -> Fetched:
    """Make a run's directory of what `push` put into the repository `name`: `report`, `compare` and `evaluate` take it.

    target: not there yet, or empty. revision: a branch, tag or commit; the newest if not given. Every file is compared
    with its size and SHA-256 before the directory appears; what a killed call had downloaded is kept beside the target.

    Raises ConcordError: anything that the caller can put right.
    """
    _checked(name)
    token = get_token()
    target = target.absolute()
    with new_directory(target) as part:
        place = target.with_name(f".{target.name}.fetched")
        with _hub_errors(name, token):
            commit = str(HfApi(token=token).repo_info(name, repo_type="dataset", revision=revision).sha)
            snapshot_download(name, repo_type="dataset", revision=commit, local_dir=place, token=token)
        try:
            rows = _unpacked(name, place, part)
        except ConcordError:
            shutil.rmtree(place, ignore_errors=True)  # or the next call would find the same
            raise
    shutil.rmtree(place, ignore_errors=True)
    return Fetched(target, len(rows), commit)


def _unpacked(name: str, place: Path, run: Path) -> list[Row]:
    """Fill a run's directory from a downloaded repository, and return the rows of its images."""
    sums = read_checksums(place)
    layout = sums.get("layout")
    if not isinstance(layout, str) or not {"recipe.yaml", "results.json"} <= sums["files"].keys():
        raise ConcordError(f"{name} was not put there by `concord export --push`: no {CHECKSUMS} with a layout in it")
    if faults := list(damage(place)):
        raise ConcordError(f"{name} did not arrive whole: {listed(faults, 3)}; give the same command again")
    spec = _spec(layout)
    manifest = place / (MANIFEST if MANIFEST in sums["files"] else ROWS)
    rows = read_rows(manifest)
    images: Iterator[bytes] = LAYOUTS.build(layout, spec.images)(place, rows)
    with disk_errors(run):
        for row, data in zip(rows, images, strict=True):
            folder, _, file = row["file_name"].rpartition("/")
            if not is_inside(row["file_name"]) or not folder or "/" in folder or folder == "." or not file:
                raise ConcordError(f"{name} has an image in a place of its own: {plain(row['file_name'])!r}")
            if sum_of(data)["sha256"] != row.get("sha256", sum_of(data)["sha256"]):
                raise ConcordError(f"{name}: {row['file_name']} is not the image of its row")
            path = run / "images" / folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        (run / "images" / MANIFEST).write_bytes(b"".join(map(json_line, rows)))
        for kept in _KEPT:
            if kept in sums["files"]:
                shutil.copyfile(place / kept, run / kept)
    seal(run, of="")
    if faults := list(verify(run).faults):
        raise ConcordError(f"{name} is not whole: {listed(faults, 3)}")
    return rows


def _spec(layout: str) -> LayoutSpec:
    spec: LayoutSpec = LAYOUTS.get(layout)
    if not spec.images:
        able = " or ".join(sorted(one for one in LAYOUTS if LAYOUTS.get(one).images))
        raise ConcordError(f"a set in layout {layout} cannot be fetched again: expected --layout {able} with --push")
    return spec


def _checked(name: str) -> bool:
    with contextlib.suppress(HFValidationError):
        validate_repo_id(name)
        if name.count("/") == 1:
            return True
    raise ConcordError(f'"{plain(name)}" is no place on the hub: expected ORG/NAME, as in my-name/reef-10')


def _repository(api: HfApi, name: str) -> Any:
    """What the hub says of a repository, None where there is none (that the token may see)."""
    with contextlib.suppress(RepositoryNotFoundError):
        return api.repo_info(name, repo_type="dataset")
    return None


def _stated(api: HfApi, models: list[str]) -> dict[str, str]:
    """Licences, as the hub states them, of models that are not known here; none of what is not on the hub."""
    found = {}
    for model in models:
        with contextlib.suppress(Exception):  # a local directory, a name of timm, a private model: it stays unknown
            if licence(model) == UNKNOWN and not Path(model).expanduser().exists() and model.count("/") == 1:
                said = api.model_info(model).card_data
                if said is not None and said.get("license"):
                    found[model] = f"{said['license']}, by its page on the hub"
    return found


@contextlib.contextmanager
def _hub_errors(name: str, token: str | None) -> Iterator[None]:
    """Turn what the hub, or the way to it, refuses into a line for the user; the token is never in it."""
    try:
        yield
    except (ConcordError, KeyboardInterrupt):
        raise
    except RevisionNotFoundError:
        raise ConcordError(f"{name} has no such revision on the hub") from None
    except GatedRepoError:
        raise ConcordError(f"{name} is for those alone whom its owner lets in: ask on its page on the hub") from None
    except RepositoryNotFoundError:
        raise ConcordError(f"{name} is not on the hub, or not for the token in HF_TOKEN") from None
    except Exception as error:
        told = _told(error, token)
        if told is None:
            raise
        raise ConcordError(f"{name}: {told}; the same command goes on from there") from None


def _told(error: BaseException, token: str | None) -> str | None:
    """What an error of the hub's client says to a user, None where it is none of the hub or the network."""
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and cause not in causes:
        causes.append(cause)
    for one in reversed(causes):
        if isinstance(one, HfHubHTTPError) and one.response is not None:
            status = one.response.status_code
            refused = {401: "the hub does not know the token", 403: "the token in HF_TOKEN may not do that"}
            said = one.server_message or ""
            what = refused.get(status, f"the hub answered {status}")
            return plain(what + (f" ({said})" if said else "")).replace(token or "\0", "***")
    for one in reversed(causes):
        if type(one).__module__.partition(".")[0] in ("httpx", "httpx2", "httpcore", "httpcore2", "requests"):
            return f"the hub was not reached ({plain(str(one)) or type(one).__name__})".replace(token or "\0", "***")
    if isinstance(error, ConnectionError) or type(error).__name__ == "LocalEntryNotFoundError":
        return "the hub was not reached (HF_HUB_OFFLINE is set, or there is no network)"
    return None
