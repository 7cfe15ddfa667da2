"""How a study's best LoRA becomes the champion, how sure that is, and how it is undone.

A *candidate* is a study's best round as it would be the champion. A *contest* holds it against the present champion on
the same test photographs. A *decision* is what a person or a rule made of that; the study remembers it. A *version* is
a champion of some time; all are kept, and a pointer says which one is present.
"""

from typing import Literal

Promotion = Literal["best", "significant", "ask"]
"""When a study's winner becomes the champion: at once; only where it wins the contest; or when a person says so."""
