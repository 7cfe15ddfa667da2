"""LoRA files: one form in memory, three on disk, and the algebra between them.

Free of torch, so that a command's help can name the formats.
"""

from typing import Literal

Format = Literal["kohya", "diffusers", "peft"]
Dtype = Literal["fp32", "fp16", "bf16"]
