"""Package a tuned model or a run's system for serving: a folder, an archive, or a SageMaker endpoint.

`folder` is for Text Embeddings Inference and sentence-transformers or, with --run, holds a run's measured system and
its documents; `archive` adds an inference handler and all models of a system; `sagemaker` prints the cost and how to
delete the endpoint, and does nothing without --yes.
"""

from __future__ import annotations

import argparse
import json
import shlex
import tempfile
from pathlib import Path

from inpars.cli.common import DatasetFlags, add_display_flags, add_path, console, print_result
from inpars.cli.measured import open_run
from inpars.contrib.deploy.sagemaker import INSTANCE_TYPE, Placement, connect, create, delete, invoke, plan, status
from inpars.contrib.deploy.system import export_system
from inpars.errors import ConfigError
from inpars.fusion.system import BM25
from inpars.io.json_text import parse_json
from inpars.options import COUNT, add_flags, add_number
from inpars.provenance import current_argv


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="what", required=True, metavar="folder|archive|sagemaker")
    for name, text, output in (
        ("folder", "a folder that Text Embeddings Inference and sentence-transformers load", "folder to write"),
        ("archive", "a model archive with its inference handler", "archive to write, ending in .tar.gz"),
    ):
        subparser = kinds.add_parser(name, help=text, description=f"Write {text}.", allow_abbrev=False)
        models = subparser.add_mutually_exclusive_group(required=True)
        models.add_argument("--model", metavar="NAME", help="tuned model: a folder, or a hub id")
        use = "for --run of `inpars serve`" if name == "folder" else "which the handler searches with"
        add_path(
            models, "--run", f"the whole measured system of an `inpars run` with its documents, {use}", metavar="FOLDER"
        )
        add_flags(subparser, DatasetFlags)
        subparser.add_argument("--trust-remote-code", action="store_true", help="run code that comes with a hub model")
        add_path(subparser, "--output", output, required=True)
        add_display_flags(subparser)
    subparser = kinds.add_parser("sagemaker", help="an endpoint", description="An endpoint.", allow_abbrev=False)
    subparser.add_argument("action", choices=("create", "update", "status", "invoke", "delete"))
    subparser.add_argument("--name", required=True, metavar="NAME", help="the endpoint's name")
    subparser.add_argument("--region", metavar="NAME", help="region (default: boto3's)")
    add_path(subparser, "--archive", "archive from `inpars deploy archive`")
    subparser.add_argument("--body", metavar="JSON", help="for invoke: the request")
    subparser.add_argument("--role", metavar="ARN", help="role that the endpoint runs as")
    subparser.add_argument("--image", metavar="URI", help="Hugging Face inference container of your region")
    subparser.add_argument("--bucket", metavar="NAME", help="bucket for the archive")
    subparser.add_argument("--instance-type", default=INSTANCE_TYPE, metavar="NAME", help="(default: %(default)s)")
    add_number(subparser, "--instances", bounds=COUNT, default=1, help="number of instances (default: 1)")
    add_number(subparser, "--serverless-memory-mb", bounds=COUNT, help="serverless endpoint with this memory")
    subparser.add_argument("--yes", action="store_true", help="proceed; without it nothing is created or deleted")
    add_display_flags(subparser)


def run(flags: argparse.Namespace) -> None:
    if flags.what == "sagemaker":
        _sagemaker(flags)
    elif flags.run is not None:
        _write_system(flags)
    else:
        _write(flags)


def _write_system(flags: argparse.Namespace) -> None:
    from inpars.contrib.deploy.archive import check_name, write_archive

    if archived := flags.what == "archive":
        check_name(flags.output)
    system, dataset = open_run(flags, flags.run, console(flags))
    measured_system = (flags.run, system, dataset)
    text = f"{flags.output}: {system}, with {len(dataset.corpus)} documents"
    if archived:
        extras = ("train", "bm25") if any(stage.retriever == BM25 for stage in system.stages) else ("train",)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "system"
            models = export_system(*measured_system, folder, shlex.join(current_argv()), all_models=True)
            count = write_archive(folder, flags.output, extras)
        text += f", all models and a handler, {count} files, {flags.output.stat().st_size / 1e6:.1f} MB"
    else:
        models = export_system(*measured_system, flags.output, shlex.join(current_argv()))
    print_result(flags, text, {"output": str(flags.output), "kind": "search system", "models": models})


def _write(flags: argparse.Namespace) -> None:
    from inpars.contrib.deploy.archive import write_archive
    from inpars.contrib.deploy.folder import export_folder

    progress = console(flags)
    if flags.what == "folder":
        kind, warnings = export_folder(flags.model, flags.output, trust_remote_code=flags.trust_remote_code)
        text = f"{flags.output}: a {kind} in float32 safetensors"
    else:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "model"
            kind, warnings = export_folder(flags.model, folder, trust_remote_code=flags.trust_remote_code)
            count = write_archive(folder, flags.output)
        warnings = []  # they concern other servers
        text = f"{flags.output}: a {kind} with its handler, {count} files, {flags.output.stat().st_size / 1e6:.1f} MB"
    for warning in warnings:
        progress.note(f"note: {warning}")
    print_result(flags, text, {"output": str(flags.output), "kind": kind, "notes": warnings})


def _sagemaker(flags: argparse.Namespace) -> None:
    if flags.action in ("create", "update"):
        _create(flags)
    elif flags.action == "delete":
        _delete(flags)
    elif flags.action == "status":
        response = status(connect(flags.region), flags.name)
        print_result(flags, ", ".join(f"{name} {value}" for name, value in response.items()), response)
    else:
        response = invoke(connect(flags.region), flags.name, _body(flags.body))
        print_result(flags, json.dumps(response, ensure_ascii=False), response)


def _create(flags: argparse.Namespace) -> None:
    needed = ("archive", "role", "image", "bucket")
    missing = [f"--{name} is needed" for name in needed if getattr(flags, name) is None]
    if missing:
        raise ConfigError(missing)
    if not flags.archive.is_file():
        raise ConfigError(f"--archive {flags.archive}: no such file; write it with `inpars deploy archive`")
    placement = Placement(
        role=flags.role,
        image=flags.image,
        bucket=flags.bucket,
        instance_type=flags.instance_type,
        instances=flags.instances,
        serverless_memory_mb=flags.serverless_memory_mb,
    )
    lines = plan(flags.name, placement, flags.archive)
    if not flags.yes:
        text = "\n".join([*lines, "nothing was made; add --yes to go on"])
        print_result(flags, text, {"plan": lines, "done": None})
        return
    for line in lines:
        console(flags).note(line)
    outcome = create(connect(flags.region), flags.name, placement, flags.archive)
    text = f"endpoint {flags.name} {outcome}; it takes some minutes, see `inpars deploy sagemaker status`"
    print_result(flags, text, {"plan": lines, "done": outcome})


def _delete(flags: argparse.Namespace) -> None:
    if not flags.yes:
        raise ConfigError(f"this deletes endpoint {flags.name} with its models and archives; add --yes")
    deleted = delete(connect(flags.region), flags.name, flags.bucket)
    text = "\n".join(f"deleted {name}" for name in deleted) or "nothing to delete"
    print_result(flags, text, {"deleted": deleted})


def _body(text: str | None) -> dict[str, object]:
    try:
        body = parse_json(text or "")
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise ConfigError('--body must be a JSON object, such as {"input": ["a text"]}')
    return body
