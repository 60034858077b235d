"""Concepts: short visual phrases that tell a class from its look-alikes."""

from concord.concepts.bank import Bank, ClassConcepts, concept_text, load_bank
from concord.concepts.negatives import draw_negatives
from concord.concepts.selection import Concept, select

__all__ = ["Bank", "ClassConcepts", "Concept", "concept_text", "draw_negatives", "load_bank", "select"]
