"""Azure, Anthropic, Gemini, Bedrock and others by LiteLLM in this process (`--base-url litellm:`).

The provider stands in the model's name, and its own environment variables hold the key. LiteLLM's errors are those of
the OpenAI SDK, and its answers have the same form.
"""

from __future__ import annotations

import os
from typing import Any

from inpars.errors import BackendError
from inpars.generation.api.requests import Endpoint

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # it would fetch one on import
import litellm

litellm.suppress_debug_info = True
litellm.telemetry = False


def ask(endpoint: Endpoint, body: dict[str, Any], timeout_seconds: float) -> dict[str, Any]:
    """The provider's answer in OpenAI's form. Raises BackendError where it lacks what every request needs."""
    model = body["model"]
    known = litellm.get_supported_openai_params(model=model)
    if known is None:
        raise BackendError(f"LiteLLM does not know the provider of {model!r}; name it: anthropic/{model}, for instance")
    if "logprobs" in body and "logprobs" not in known:
        raise BackendError(f"the provider of {model!r} gives no log-probs; add --log-prob-kind absent")
    sent = {name: value for name, value in body.items() if name != "seed" or name in known}  # most lack one
    call: Any = litellm.text_completion if endpoint == "completions" else litellm.completion
    answer: dict[str, Any] = call(**sent, timeout=timeout_seconds, max_retries=0, num_retries=0).model_dump()
    return answer
