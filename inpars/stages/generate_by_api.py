"""What stages need to use an API server: its client, its stamp, and cost estimates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from inpars.errors import ConfigError, MissingDependencyError, pip_line
from inpars.extras import EXTRAS
from inpars.generation import PaidGenerator
from inpars.generation.api.budget import Estimate, Price, load_prices
from inpars.generation.api.journal import journal_path, read_answers
from inpars.generation.api.options import ApiOptions, check_api
from inpars.generation.api.requests import Endpoint, RequestAdapter, RequestFormat
from inpars.generation.settings import DecodingSettings
from inpars.io.manifest import FileStamp, stamp_text
from inpars.models.folders import refuse_server_model
from inpars.progress import SILENT, Progress
from inpars.prompts.mixture import PromptSource
from inpars.stages.chunk_loop import Done, PlannedWork, work_here
from inpars.stages.shards import Shard
from inpars.stages.stage import Stage, model_stamp

if TYPE_CHECKING:
    from inpars.generation.api.generator import ApiGenerator

Item = TypeVar("Item")
SERVER_BACKENDS: Mapping[str, Endpoint] = {"completions": "completions", "chat": "chat"}  # by --backend


def server_stamp(options: ApiOptions) -> FileStamp:
    """The stamp of a server: its address and the kind of its log-probs, which determine the output."""
    return stamp_text(options.url, f"{options.url}\n{options.log_prob_kind}")


def work_and_pay(
    stage: Stage, work: PlannedWork, part: Shard | None, generator: object
) -> tuple[Done, Mapping[str, Any]]:
    """Do the work in this process; also returns what a paid server cost."""
    if not isinstance(generator, PaidGenerator):
        return work_here(stage, work, part), {}
    with closing(generator):
        done = work_here(stage, work, part)
    for line in generator.notes():
        stage.note(line)
    return done, generator.results()


def model_inputs(model: str, backend: str, api: ApiOptions | None, command: str) -> dict[str, FileStamp]:
    """Stamps of the model (by name for a server's) and of the server.

    Raises ConfigError for a model that only servers have, with a local backend.
    """
    if backend not in SERVER_BACKENDS:
        refuse_server_model(model, f"`inpars {command} --backend chat --base-url URL` asks a server")
        return {"model": model_stamp(model)}
    return {"model": stamp_text(model, model), **({} if api is None else {"server": server_stamp(api)})}


def open_server(
    adapter: RequestAdapter[Item], options: ApiOptions, output: Path, progress: Progress = SILENT
) -> ApiGenerator[Item]:
    """The client of a server; it saves the responses next to `output`. Raises what `priced` raises."""
    price = priced(adapter.endpoint, adapter.model, options)
    from inpars.generation.api.generator import ApiGenerator

    return ApiGenerator(adapter, options, price, output, progress)


def priced(endpoint: Endpoint, model: str, options: ApiOptions) -> Price | None:
    """A model's price, if known. Raises ConfigError for --max-usd without one, MissingDependencyError for the SDK."""
    price = load_prices(options.price_file).find(model, batch=options.batch)
    if options.max_usd is not None and price is None:
        raise ConfigError(f"--max-usd: no price is known for {model!r}; write it into a file and name it --price-file")
    if find_spec("openai") is None:
        install = EXTRAS["api"].install_line() or pip_line(["openai"])
        raise MissingDependencyError("openai", f"for --backend {endpoint}", install)
    return price


def estimate_cost(items: Iterable[Item], adapter: RequestAdapter[Item], options: ApiOptions, output: Path) -> Estimate:
    """The remaining requests and their maximum cost; sends and writes nothing."""
    prices = load_prices(options.price_file)
    price = prices.find(adapter.model, batch=options.batch)
    answered = {record.get("request") for record in read_answers(journal_path(output))}
    requests = [request for item in items for request in adapter.requests(item)]
    remaining = [request for request in requests if request.digest not in answered]
    tokens_in = sum(request.input_tokens for request in remaining)
    tokens_out = sum(request.output_tokens for request in remaining)
    usd = price.usd(tokens_in, tokens_out) if price else None
    return Estimate(len(remaining), len(requests) - len(remaining), tokens_in, tokens_out, usd, prices.as_of)


def query_requests(
    endpoint: Endpoint, model: str, prompt: PromptSource, settings: DecodingSettings, options: ApiOptions
) -> RequestFormat:
    """The requests for a document's queries. Raises ConfigError for settings that a server does not support."""
    check_api(options, asks_server=True)
    settings.check()
    return RequestFormat(endpoint, model, prompt, settings, options.url, log_probs=options.log_prob_kind != "absent")
