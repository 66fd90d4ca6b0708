"""Names of number formats, for those who must not import torch."""

from typing import Literal, TypeAlias

DtypeName: TypeAlias = Literal["auto", "float32", "bfloat16"]
