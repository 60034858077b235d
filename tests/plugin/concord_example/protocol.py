"""A protocol: the field's, cut to a few epochs, for a first look."""

from dataclasses import replace

from concord.evaluation.protocols import RDED

PROTOCOL = replace(RDED, name="brief", epochs=2)
