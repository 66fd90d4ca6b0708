"""The flags of `inpars run` for judging by a language model, checked before the run starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from inpars.cache import canonical_name
from inpars.io.manifest import stamp_text
from inpars.judging import JudgeBackend
from inpars.options import FlagGroup, flag_name, option, result_settings

if TYPE_CHECKING:  # large modules that `--help` does not need
    from inpars.generation.api.options import ApiOptions
    from inpars.prompts.judging import JudgingPrompt
    from inpars.stages.judge import JudgeOptions

HASH_CHARACTERS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgingOptions:
    """Whether and how a language model judges the systems' results; `inpars judge` has more settings."""

    FLAG_GROUP: ClassVar = FlagGroup("real queries and judges")

    judge: str | None = option(
        None,
        help="also measure all systems by a language model's grades, on --unlabelled-queries if given; takes time "
        "beyond --budget; see --help-all",
        metavar="MODEL",
    )
    judge_backend: JudgeBackend = option(
        "causal", help="as `inpars judge --backend`: this machine, or a server", advanced=True
    )
    judge_base_url: str | None = option(
        None, help="address of the judge's server (default: OpenAI's)", metavar="URL", advanced=True
    )
    judge_max_usd: float | None = option(
        None, help="stop before judging has cost more than this", changes_result=False, minimum=0, advanced=True
    )
    judge_depth: int = option(10, help="documents per system and query to judge", minimum=1, advanced=True)
    judge_queries: int | None = option(
        None, help="judge only the first N queries (default: all)", minimum=1, advanced=True
    )
    judge_prompt: str = option("relevance", help="judging prompt, shipped name or file", advanced=True)
    judge_max_doc_tokens: int = option(
        256, help="maximum tokens of a document in the judging prompt", minimum=1, advanced=True
    )
    judge_batch: bool = option(False, help="use the server's Batch API", changes_result=False, advanced=True)
    judge_price_file: Path | None = option(
        None, help="price list for --judge-max-usd", changes_result=False, advanced=True
    )

    def problems(self) -> list[str]:
        if self.judge is not None:
            return []
        given = [field.name for field in fields(self) if getattr(self, field.name) != field.default]
        return [f"{flag_name(name)} goes with --judge MODEL" for name in given]

    @property
    def prompt(self) -> JudgingPrompt:
        """Raises PromptError, UnknownNameError."""
        from inpars.prompts.judging import load_judging_prompt

        return load_judging_prompt(self.judge_prompt)

    @property
    def api(self) -> ApiOptions:
        from inpars.generation.api.options import ApiOptions

        return ApiOptions(
            base_url=self.judge_base_url,
            batch=self.judge_batch,
            max_usd=self.judge_max_usd,
            price_file=self.judge_price_file,
        )

    def stage_options(self, computing: Mapping[str, Any]) -> JudgeOptions:
        from inpars.stages.judge import JudgeOptions

        return JudgeOptions(
            model=self.judge or "",
            backend=self.judge_backend,
            depth=self.judge_depth,
            max_doc_tokens=self.judge_max_doc_tokens,
            **computing,
        )

    def check(self) -> None:
        """Raise the errors that judging would raise at the end of the run."""
        if self.judge is not None:
            from inpars.stages.judge import check_judge

            assert self.prompt  # loads and checks it
            check_judge(self.stage_options({}), self.api)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that affect results; empty without a judge."""
        if self.judge is None:
            return {}
        prompt = self.prompt
        hashed = f"{prompt.name} {stamp_text(prompt.name, prompt.text).sha256[:HASH_CHARACTERS]}"
        return {**result_settings(self), "judge": canonical_name(self.judge), "judge_prompt": hashed}
