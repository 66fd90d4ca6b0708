"""What the generation stage needs to ask a server: the generator, its stamp, and what it would cost."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from inpars.errors import ConfigError, MissingDependencyError, pip_line
from inpars.extras import EXTRAS
from inpars.generation import QueryGenerator
from inpars.generation.api.budget import Estimate, load_prices
from inpars.generation.api.journal import journal_path, read_answers
from inpars.generation.api.options import ApiOptions, check_api
from inpars.generation.api.requests import Endpoint, RequestFormat
from inpars.generation.settings import DecodingSettings
from inpars.manifest import FileStamp, stamp_text
from inpars.progress import SILENT, Progress
from inpars.prompting.mixture import PromptSource
from inpars.records import Document


def server_stamp(options: ApiOptions) -> FileStamp:
    """What of the server decides the output: its address and the kind of its log-probs."""
    return stamp_text(options.url, f"{options.url}\n{options.log_prob_kind}")


def load_api_generator(
    endpoint: Endpoint,
    model: str,
    prompt: PromptSource,
    settings: DecodingSettings,
    options: ApiOptions,
    output: Path,
    progress: Progress = SILENT,
) -> QueryGenerator:
    """The generator that asks the server. The SDK is loaded here and not before."""
    wording = _wording(endpoint, model, prompt, settings, options)
    price = load_prices(options.price_file).find(model, batch=options.batch)
    if options.max_usd is not None and price is None:
        raise ConfigError(f"--max-usd: no price is known for {model!r}; write it into a file and name it --price-file")
    if find_spec("openai") is None:
        install = EXTRAS["api"].install_line() or pip_line(["openai"])
        raise MissingDependencyError("openai", f"for --backend {endpoint}", install)
    from inpars.generation.api.generator import ApiGenerator

    return ApiGenerator(wording, options, price, output, progress)


def estimate_cost(
    documents: Iterable[Document],
    endpoint: Endpoint,
    model: str,
    prompt: PromptSource,
    settings: DecodingSettings,
    options: ApiOptions,
    output: Path,
) -> Estimate:
    """What is left to ask for and what it would cost at most; asks and writes nothing."""
    wording = _wording(endpoint, model, prompt, settings, options)
    prices = load_prices(options.price_file)
    price = prices.find(model, batch=options.batch)
    answered = {record.get("request") for record in read_answers(journal_path(output))}
    requests = [request for document in documents for request in wording.requests(document)]
    left = [request for request in requests if request.digest not in answered]
    tokens_in, tokens_out = sum(one.input_tokens for one in left), sum(one.output_tokens for one in left)
    usd = price.usd(tokens_in, tokens_out) if price else None
    return Estimate(len(left), len(requests) - len(left), tokens_in, tokens_out, usd, prices.as_of)


def _wording(
    endpoint: Endpoint, model: str, prompt: PromptSource, settings: DecodingSettings, options: ApiOptions
) -> RequestFormat:
    check_api(options, asks_server=True)
    settings.check()
    return RequestFormat(endpoint, model, prompt, settings, options.url, log_probs=options.log_prob_kind != "absent")
