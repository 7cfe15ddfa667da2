"""Pairs of photographs, and their latents."""
