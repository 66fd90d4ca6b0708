"""Names of number formats, for those who must not import torch.

In float64 results are the same to the last stored digit whatever the batch size; in float32 to about five.
"""

from typing import Literal, TypeAlias

DtypeName: TypeAlias = Literal["auto", "float64", "float32", "bfloat16"]
