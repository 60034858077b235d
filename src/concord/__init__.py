"""concord: dataset distillation with concept-informed diffusion."""
