"""Model families, one file each: a diffusers pipeline made a function of latent and timestep."""
