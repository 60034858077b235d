"""Concepts: short visual phrases that tell a class from its look-alikes."""

from typing import TYPE_CHECKING, Any

from concord.concepts.bank import Bank, ClassConcepts, concept_text, load_bank
from concord.concepts.negatives import draw_negatives

if TYPE_CHECKING:
    from concord.concepts.selection import Concept, select

__all__ = ["Bank", "ClassConcepts", "Concept", "concept_text", "draw_negatives", "load_bank", "select"]


def __getattr__(name: str) -> Any:
    """Give what needs torch at first use: a bank is read and linted without it."""
    if name in ("Concept", "select"):
        from concord.concepts import selection

        return getattr(selection, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
