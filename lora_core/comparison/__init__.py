"""Blind comparison: a page on which a person chooses between two restorations, and what becomes of the choices."""
