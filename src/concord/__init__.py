"""concord: dataset distillation with concept-informed diffusion."""

from typing import TYPE_CHECKING, Any

from concord import moved

if TYPE_CHECKING:
    from concord.guidance.attach import inform


__all__ = ["inform"]
moved.install()


def __getattr__(name: str) -> Any:
    """Import `inform` at first need: it brings torch, which `concord --help` can do without."""
    if name == "inform":
        from concord.guidance.attach import inform

        return inform
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
