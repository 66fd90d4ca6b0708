"""Azure, Anthropic, Gemini, Bedrock and others through LiteLLM in this process (`--base-url litellm:`).

The model's name contains the provider, whose environment variables hold the key. LiteLLM raises the OpenAI SDK's
errors and returns OpenAI's response format.
"""

from __future__ import annotations

import os
from typing import Any

from inpars.errors import BackendError
from inpars.generation.api.requests import Endpoint

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # otherwise importing it downloads one
import litellm

litellm.suppress_debug_info = True
litellm.telemetry = False


def ask(endpoint: Endpoint, body: dict[str, Any], timeout_seconds: float) -> dict[str, Any]:
    """The response in OpenAI's format. Raises BackendError if the provider is unknown or has no log-probs."""
    model = body["model"]
    supported = litellm.get_supported_openai_params(model=model)
    if supported is None:
        raise BackendError(f"LiteLLM does not know the provider of {model!r}; name it: anthropic/{model}, for instance")
    if "logprobs" in body and "logprobs" not in supported:
        raise BackendError(f"the provider of {model!r} gives no log-probs; add --log-prob-kind absent")
    sent = {name: value for name, value in body.items() if name != "seed" or name in supported}
    call: Any = litellm.text_completion if endpoint == "completions" else litellm.completion
    response: dict[str, Any] = call(**sent, timeout=timeout_seconds, max_retries=0, num_retries=0).model_dump()
    return response
