"""A protocol: Minimax's hard labels, cut to a few epochs, for a first look."""

from concord.evaluation.protocols import HARD

PROTOCOL = HARD.model_copy(update={"name": "brief", "epochs": 2})
