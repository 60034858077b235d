"""The tensors of a run: what they are is kept before the first image, and all become one file when the last is stored.

So a run that was killed in between needs no method to end: the file is a function of what is stored.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from concord.choices import TENSORS
from concord.data.classes import ClassTable
from concord.data.tensor_set import FORM, TensorForm, checked, damaged, open_form, save_form, save_tensors
from concord.runs.store import Row, Store
from concord.storage.atomic import disk_errors, make_directories


def keep_form(out: Path, form: TensorForm) -> None:
    """Write what the tensors of a run are, before the first of them."""
    with disk_errors(out):
        make_directories((out / FORM).parent)
        save_form(out / FORM, form)


def kept_form(out: Path) -> TensorForm | None:
    """What `keep_form` wrote; None where it did not."""
    path = out / FORM
    return open_form(path) if path.is_file() else None


def gather(out: Path, store: Store, classes: ClassTable, form: TensorForm) -> None:
    """Write all tensors of a finished store as one file, in the order of label and index.

    Raises ConcordError: they are no squares of one size, or do not fit their space.
    """
    rows: Sequence[Row] = [store.rows[place] for place in sorted(store.rows)]
    arrays = [store.tensor(row) for row in rows]
    if len(shapes := {array.shape for array in arrays}) > 1:
        raise damaged(out / TENSORS, f"its images are of {len(shapes)} sizes, where squares of one are expected")
    whole = np.stack(arrays)
    labels = torch.tensor([row["label"] for row in rows])
    soft = torch.tensor([row["soft"] for row in rows]) if all("soft" in row for row in rows) else None
    checked(str(out / TENSORS), torch.from_numpy(whole), labels, classes, form, soft)
    with disk_errors(out):
        save_tensors(out / TENSORS, torch.from_numpy(whole), labels, classes, form, soft)
