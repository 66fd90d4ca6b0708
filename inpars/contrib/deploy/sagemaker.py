"""One SageMaker endpoint: plan, create or update, describe, invoke, and delete with its models and archives.

Models and configurations are named after the endpoint and the archive's hash, so creating an endpoint twice changes
nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from inpars.errors import BackendError, ConfigError, reason_of

Row: TypeAlias = dict[str, Any]
NAME = re.compile(r"[A-Za-z0-9](-?[A-Za-z0-9]){0,47}")
HASH_DIGITS = 12
VARIANT = "AllTraffic"
INSTANCE_TYPE = "ml.c5.xlarge"  # small models need no GPU
TAG = {"Key": "made-by", "Value": "inpars"}
ABSENT = ("Could not find", "does not exist", "Cannot find")


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where an endpoint runs."""

    role: str
    image: str
    bucket: str
    instance_type: str = INSTANCE_TYPE
    instances: int = 1
    serverless_memory_mb: int | None = None
    serverless_concurrency: int = 5


@dataclass(frozen=True, slots=True)
class Clients:
    """boto3's clients of the three services."""

    sagemaker: Any
    runtime: Any
    storage: Any


def connect(region: str | None) -> Clients:
    """Connect with the credentials that boto3 finds."""
    import boto3
    from botocore.exceptions import BotoCoreError

    try:
        session = boto3.Session(region_name=region)
        return Clients(*(session.client(name) for name in ("sagemaker", "sagemaker-runtime", "s3")))
    except BotoCoreError as error:
        raise BackendError(f"cannot connect to SageMaker: {error}; check --region and your credentials") from error


def plan(name: str, placement: Placement, archive: Path) -> list[str]:
    """Lines on what `create` will make, what it costs and how to delete it."""
    _check(name, placement)
    megabytes = archive.stat().st_size / 1e6
    if placement.serverless_memory_mb is None:
        runs = f"{placement.instances} x {placement.instance_type}"
        cost = f"{runs} is billed for every hour that the endpoint exists, used or not"
    else:
        runs = f"serverless, {placement.serverless_memory_mb} MB"
        cost = "serverless is billed for the time of each request; the first request after a pause takes longer"
    return [
        f"endpoint {name}: {runs}, image {placement.image}",
        f"upload: {megabytes:.1f} MB to s3://{placement.bucket}/{_key(name, archive)}, billed by size and month",
        f"cost: {cost}; check the price for your region before you continue",
        f"clean-up: inpars deploy sagemaker delete --name {name} deletes endpoint, configurations, models, archives",
    ]


def create(clients: Clients, name: str, placement: Placement, archive: Path) -> str:
    """Create or update the endpoint: `created`, `updated` or `unchanged`."""
    _check(name, placement)
    endpoint = _endpoint(clients, name)
    version = f"{name}-{_version(placement, archive)}"
    key = _key(name, archive)
    with _aws(f"s3://{placement.bucket}/{key} cannot be written"):
        clients.storage.upload_file(str(archive), placement.bucket, key)
    with _aws(f"endpoint {name} cannot be created"):
        if not _describe(clients.sagemaker.describe_model, ModelName=version):
            _create_model(clients, version, placement, f"s3://{placement.bucket}/{key}")
        if not _describe(clients.sagemaker.describe_endpoint_config, EndpointConfigName=version):
            _create_configuration(clients, version, placement)
        if endpoint is None:
            clients.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=version, Tags=[TAG])
            return "created"
        if endpoint["EndpointConfigName"] == version:
            return "unchanged"
        clients.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=version)
        return "updated"


def status(clients: Clients, name: str) -> Row:
    """The endpoint's state, configuration and, if it failed, the reason. Raises BackendError if it does not exist."""
    endpoint = _endpoint(clients, name)
    if endpoint is None:
        raise BackendError(f"there is no endpoint {name!r}; check --name and --region")
    names = ("EndpointName", "EndpointStatus", "EndpointConfigName", "FailureReason")
    return {key: endpoint[key] for key in names if key in endpoint}


def invoke(clients: Clients, name: str, body: Row) -> Row:
    """Send a request to the endpoint and return its response."""
    with _aws(f"endpoint {name} did not answer"):
        answer = clients.runtime.invoke_endpoint(
            EndpointName=name, ContentType="application/json", Accept="application/json", Body=json.dumps(body)
        )
        raw = answer["Body"].read()
    try:
        response = json.loads(raw)
    except ValueError:
        raise BackendError(f"endpoint {name} did not answer with JSON (found {raw[:80]!r})") from None
    return response if isinstance(response, dict) else {"answer": response}


def delete(clients: Clients, name: str, bucket: str | None = None) -> list[str]:
    """Delete the endpoint with its configurations, models and archives, and list what was deleted."""
    if problems := _name_problems(name):
        raise ConfigError(problems)
    deleted: list[str] = []
    with _aws(f"endpoint {name} cannot be deleted"):
        if _endpoint(clients, name) is not None:
            clients.sagemaker.delete_endpoint(EndpointName=name)
            deleted.append(f"endpoint {name}")
        for version in _versions(clients, "list_endpoint_configs", "EndpointConfigs", "EndpointConfigName", name):
            clients.sagemaker.delete_endpoint_config(EndpointConfigName=version)
            deleted.append(f"configuration {version}")
        for version in _versions(clients, "list_models", "Models", "ModelName", name):
            url = clients.sagemaker.describe_model(ModelName=version)["PrimaryContainer"]["ModelDataUrl"]
            clients.sagemaker.delete_model(ModelName=version)
            deleted += [f"model {version}", _delete_archive(clients, url)]
        if bucket is not None:  # archives of uploads that were interrupted before their model was created
            pages = clients.storage.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"inpars/{name}/")
            keys = [row["Key"] for page in pages for row in page.get("Contents", [])]
            deleted += [_delete_archive(clients, f"s3://{bucket}/{key}") for key in keys]
    return deleted


def _name_problems(name: str) -> list[str]:
    return [] if NAME.fullmatch(name) else [f"--name {name!r}: letters, digits and single dashes, at most 48"]


def _check(name: str, placement: Placement) -> None:
    problems = _name_problems(name)
    if not re.fullmatch(r"arn:[\w-]+:iam::\d{12}:role/\S+", placement.role):
        problems.append(f"--role {placement.role!r}: give the role's ARN")
    if placement.instances < 1:
        problems.append(f"--instances is {placement.instances}; it must be at least 1")
    memory = placement.serverless_memory_mb
    if memory is not None and memory not in range(1024, 6145, 1024):
        problems.append(f"--serverless-memory-mb is {memory}; it must be 1024 to 6144 in steps of 1024")
    if problems:
        raise ConfigError(problems)


def _create_model(clients: Clients, version: str, placement: Placement, archive_url: str) -> None:
    container = {
        "Image": placement.image,
        "ModelDataUrl": archive_url,
        "Environment": {"SAGEMAKER_PROGRAM": "inference.py", "HF_HUB_OFFLINE": "1"},
    }
    clients.sagemaker.create_model(
        ModelName=version, ExecutionRoleArn=placement.role, PrimaryContainer=container, Tags=[TAG]
    )


def _create_configuration(clients: Clients, version: str, placement: Placement) -> None:
    variant: Row = {"VariantName": VARIANT, "ModelName": version}
    if placement.serverless_memory_mb is None:
        variant |= {"InstanceType": placement.instance_type, "InitialInstanceCount": placement.instances}
    else:
        concurrency = placement.serverless_concurrency
        variant["ServerlessConfig"] = {"MemorySizeInMB": placement.serverless_memory_mb, "MaxConcurrency": concurrency}
    clients.sagemaker.create_endpoint_config(EndpointConfigName=version, ProductionVariants=[variant], Tags=[TAG])


def _version(placement: Placement, archive: Path) -> str:
    """A hash of the archive and the placement."""
    digest = hashlib.sha256(f"{placement}\0{_digest(archive)}".encode())
    return digest.hexdigest()[:HASH_DIGITS]


def _key(name: str, archive: Path) -> str:
    return f"inpars/{name}/{_digest(archive)[:HASH_DIGITS]}/model.tar.gz"


def _digest(archive: Path) -> str:
    with archive.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _versions(clients: Clients, method: str, rows: str, field: str, name: str) -> Iterator[str]:
    """Names that `create` gave for this endpoint, without those of other endpoints that share the prefix."""
    ours = re.compile(rf"{re.escape(name)}-[0-9a-f]{{{HASH_DIGITS}}}")
    pages = clients.sagemaker.get_paginator(method).paginate(NameContains=name)
    listed = [row[field] for page in pages for row in page[rows]]
    return (version for version in listed if ours.fullmatch(version))


def _delete_archive(clients: Clients, url: str) -> str:
    bucket, _, key = url.removeprefix("s3://").partition("/")
    clients.storage.delete_object(Bucket=bucket, Key=key)
    return f"archive {url}"


def _endpoint(clients: Clients, name: str) -> Row | None:
    with _aws(f"endpoint {name} cannot be described"):
        return _describe(clients.sagemaker.describe_endpoint, EndpointName=name)


def _describe(describe: Any, **query: str) -> Row | None:  # noqa: ANN401 - boto3's methods have no types
    """The description, None if there is no such resource."""
    from botocore.exceptions import ClientError

    try:
        description: Row = describe(**query)
    except ClientError as error:
        if any(words in str(error) for words in ABSENT):
            return None
        raise
    return description


@contextmanager
def _aws(problem: str) -> Iterator[None]:
    """Raise boto3's errors as one-line BackendErrors."""
    from boto3.exceptions import S3UploadFailedError
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError, S3UploadFailedError) as error:
        raise BackendError(f"{problem}: {reason_of(error)}") from error
