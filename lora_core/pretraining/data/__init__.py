"""The data of pretraining: sources are surveyed once into a manifest, from which training reads by position."""
