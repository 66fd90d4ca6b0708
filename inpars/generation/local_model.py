"""A model that generates on this machine: its name, its prompt, how it decodes, and where it computes."""

from __future__ import annotations

from dataclasses import dataclass

from inpars.generation.settings import DecodingSettings
from inpars.models.computing import ComputingOptions
from inpars.prompting.templates import PromptSource


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model, its prompt, how it decodes, and where it computes."""

    model: str
    prompt: PromptSource
    settings: DecodingSettings
    computing: ComputingOptions
