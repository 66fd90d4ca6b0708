"""The shapes in which servers answer that call themselves OpenAI-compatible, and what must come of each.

Made up from their public documentation: fields of their own, log-probabilities in their own form, errors in their own
words. `PROVIDERS` has the rows of the table in docs/models.md, in their order.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fake_api import KEY, Handler, Server

TOKENS, VALUES = [" what", " do", " cats", " eat"], [-0.5, -0.25, -0.125, -1.0]
CHAT_TOKENS = ["what", *TOKENS[1:]]
QUERY = "what do cats eat"
USAGE = {"prompt_tokens": 30, "completion_tokens": 4, "total_tokens": 34}
Body = dict[str, Any]


@dataclass(frozen=True)
class Provider:
    """One server: its answers, its word for a model that it does not have, and what a query must have."""

    name: str
    answer: Callable[[str, Body], Body]  # path, request
    unknown_model: tuple[int, Body]
    reason: str  # of what the message must hold
    log_probs: list[float] | None
    stop_log_prob: float | None = None
    key_header: tuple[str, str] = ("authorization", f"Bearer {KEY}")


def entries(tokens, **more):
    return [
        {"token": token, "logprob": value, "bytes": list(token.encode()), "top_logprobs": [], **more}
        for token, value in zip(tokens, VALUES, strict=True)
    ]


def chat(body, log_probs=None, message=None, choice=None, **more):
    turn = {"role": "assistant", "content": QUERY, **(message or {})}
    first = {"index": 0, "message": turn, "logprobs": log_probs, "finish_reason": "stop", **(choice or {})}
    fixed = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": body["model"]}
    return {**fixed, "choices": [first], "usage": USAGE, **more}


def completion(body, text, log_probs, choice=None, **more):
    first = {"index": 0, "text": text, "logprobs": log_probs, "finish_reason": "stop", **(choice or {})}
    fixed = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": body["model"]}
    return {**fixed, "choices": [first], "usage": USAGE, **more}


def openai(path, body):
    wanted = {"content": entries(CHAT_TOKENS), "refusal": None} if body.get("logprobs") else None
    details = {"prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0}}
    message = {"refusal": None, "annotations": []}
    return chat(body, wanted, message, usage=USAGE | details, service_tier="default", system_fingerprint="fp_1")


def azure(path, body):
    passed = {kind: {"filtered": False, "severity": "safe"} for kind in ("hate", "self_harm", "sexual", "violence")}
    assert path == "/openai/deployments/DEPLOYMENT/chat/completions?api-version=2024-10-21"
    answer = openai(path, body)
    answer["choices"][0]["content_filter_results"] = passed
    return answer | {"prompt_filter_results": [{"prompt_index": 0, "content_filter_results": passed}]}


def vllm(path, body):
    tokens, values = [*TOKENS, "\n"], [*VALUES, -0.75]
    top = [{token: value} for token, value in zip(tokens, values, strict=True)]
    log_probs = {"text_offset": [0, 5, 8, 13, 17], "token_logprobs": values, "tokens": tokens, "top_logprobs": top}
    own = {"stop_reason": body["stop"][0], "prompt_logprobs": None, "token_ids": None}
    return completion(body, "".join(TOKENS), log_probs, own, service_tier=None, kv_transfer_params=None)


def llama_cpp(path, body):
    log_probs = {"content": entries(TOKENS, id=7)}
    return completion(body, "".join(TOKENS), log_probs, timings={"predicted_n": 4}, system_fingerprint="b1")


def ollama(path, body):
    return chat(body, {"content": entries(CHAT_TOKENS)}, system_fingerprint="fp_ollama")


def lm_studio(path, body):
    assert "logprobs" not in body
    return chat(body, None, {"reasoning_content": "", "tool_calls": []}, stats={}, system_fingerprint=body["model"])


def openrouter(path, body):
    message = {"refusal": None, "reasoning": None}
    more = {"provider": "Somebody", "usage": USAGE | {"cost": 0.00001, "is_byok": False}}
    return chat(body, None, message, {"native_finish_reason": "STOP"}, **more)


def sglang(path, body):
    log_probs = {"text_offset": [-1] * 4, "token_logprobs": VALUES, "tokens": TOKENS, "top_logprobs": []}
    own, more = {"matched_stop": body["stop"][0], "hidden_states": None}, {"metadata": {"weight_version": "default"}}
    return completion(body, "".join(TOKENS), log_probs, own, **more)


def litellm(path, body):
    log_probs = {"content": entries(CHAT_TOKENS, top_logprobs=None)}
    message = {"tool_calls": None, "function_call": None, "provider_specific_fields": {"refusal": None}}
    return chat(body, log_probs, message, {"provider_specific_fields": {}})


def error(message, **more):
    return {"error": {"message": message, **more}}


PROVIDERS = [
    Provider(
        "OpenAI",
        openai,
        (404, error("The model `m` does not exist", type="invalid_request_error", param=None, code="model_not_found")),
        "status 404: The model `m` does not exist; check --base-url, --model",
        VALUES,
    ),
    Provider(
        "Azure OpenAI",
        azure,
        (404, error("The API deployment for this resource does not exist.", code="DeploymentNotFound")),
        "status 404: The API deployment for this resource does not exist.; check",
        VALUES,
        key_header=("api-key", KEY),
    ),
    Provider(
        "vLLM",
        vllm,
        (404, {"object": "error", "message": "The model `m` does not exist.", "type": "NotFoundError", "code": 404}),
        "status 404: The model `m` does not exist.; check",
        VALUES,
        -0.75,
    ),
    Provider(
        "llama.cpp",
        llama_cpp,
        (400, error("model 'm' not found", code=400, type="invalid_request_error")),
        "status 400: model 'm' not found",
        VALUES,
    ),
    Provider(
        "Ollama",
        ollama,
        (404, error("model 'm' not found", type="api_error", param=None, code=None)),
        "status 404: model 'm' not found; check",
        VALUES,
    ),
    Provider(
        "LM Studio", lm_studio, (404, {"error": "Model 'm' not found."}), "status 404: Model 'm' not found.", None
    ),
    Provider(
        "OpenRouter",
        openrouter,
        (200, error("No endpoints found for m.", code=404) | {"user_id": "u"}),
        "status 404: No endpoints found for m.; check",
        None,
    ),
    Provider(
        "SGLang",
        sglang,
        (400, {"object": "error", "message": "no such model", "type": "BadRequestError", "param": None, "code": 400}),
        "status 400: no such model",
        VALUES,
    ),
    Provider(
        "LiteLLM proxy",
        litellm,
        (400, error("litellm.BadRequestError: Invalid model name m", type="None", param="None", code="400")),
        "status 400: litellm.BadRequestError: Invalid model name m",
        VALUES,
    ),
]


class ProviderHandler(Handler):
    """Answers as the server's provider does; a model by another name than `known` is not there."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        provider = self.server.provider
        self.server.asked.append((self.path, self.headers.get(provider.key_header[0]), body))
        if body["model"] == "known":
            self.send(200, provider.answer(self.path, body))
        else:
            self.send(*provider.unknown_model)


@contextmanager
def running(provider):
    """A server of the provider's shape on loopback; its list of requests, each a path, the key it got, and the body."""
    server = Server(("127.0.0.1", 0), ProviderHandler)
    server.provider, server.asked = provider, []
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server.asked
    finally:
        server.shutdown()
        server.server_close()
