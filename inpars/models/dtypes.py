"""Names of number formats, for those who must not import torch."""

from typing import Literal, TypeAlias

DtypeName: TypeAlias = Literal["auto", "float64", "float32", "bfloat16"]
