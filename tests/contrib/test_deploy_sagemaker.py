"""An endpoint from its creation to its end, on a stand-in of the service that keeps what it is told."""

import json

import pytest

pytest.importorskip("boto3", reason="the sagemaker extra is not installed")
pytest.importorskip("moto", reason="moto stands in for the service: pip install moto")

import boto3
import moto

from inpars.cli.main import main
from inpars.contrib.deploy.sagemaker import Clients, Placement, create, delete, invoke, plan, status
from inpars.errors import BackendError, ConfigError

REGION, BUCKET = "eu-west-1", "archives"
PLACE = Placement(role="arn:aws:iam::123456789012:role/endpoint", image="image:1", bucket=BUCKET)


@pytest.fixture
def clients(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    with moto.mock_aws():
        made = Clients(*(boto3.client(name, region_name=REGION) for name in ("sagemaker", "sagemaker-runtime", "s3")))
        made.storage.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        monkeypatch.setattr(made.sagemaker, "update_endpoint", lambda **what: _replace(made.sagemaker, **what))
        yield made


def _replace(sagemaker, EndpointName, EndpointConfigName):  # noqa: N803, RUF100 - the service's own names
    """moto has no update_endpoint; what it leaves behind is the same. It refuses a configuration that is not there."""
    sagemaker.describe_endpoint_config(EndpointConfigName=EndpointConfigName)
    sagemaker.delete_endpoint(EndpointName=EndpointName)
    sagemaker.create_endpoint(EndpointName=EndpointName, EndpointConfigName=EndpointConfigName)


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "model.tar.gz"
    path.write_bytes(b"one model")
    return path


def stored(clients):
    return [row["Key"] for row in clients.storage.list_objects_v2(Bucket=BUCKET).get("Contents", [])]


def left(clients):
    """How many endpoints, configurations, models and archives there are."""
    sagemaker = clients.sagemaker
    return (
        len(sagemaker.list_endpoints()["Endpoints"]),
        len(sagemaker.list_endpoint_configs()["EndpointConfigs"]),
        len(sagemaker.list_models()["Models"]),
        len(stored(clients)),
    )


def test_an_endpoint_lives_and_leaves_nothing(clients, archive):
    assert create(clients, "search", PLACE, archive) == "created"
    assert create(clients, "search", PLACE, archive) == "unchanged"
    assert left(clients) == (1, 1, 1, 1)
    first = status(clients, "search")["EndpointConfigName"]
    archive.write_bytes(b"another model")
    assert create(clients, "search", PLACE, archive) == "updated"
    assert status(clients, "search")["EndpointConfigName"] != first
    assert left(clients) == (1, 2, 2, 2)
    taken = delete(clients, "search")
    assert left(clients) == (0, 0, 0, 0)
    assert len(taken) == 7
    assert delete(clients, "search") == []


def test_the_container_gets_the_archive_that_was_uploaded(clients, archive):
    create(clients, "search", PLACE, archive)
    [model] = clients.sagemaker.list_models()["Models"]
    container = clients.sagemaker.describe_model(ModelName=model["ModelName"])["PrimaryContainer"]
    key = container["ModelDataUrl"].removeprefix(f"s3://{BUCKET}/")
    assert clients.storage.get_object(Bucket=BUCKET, Key=key)["Body"].read() == b"one model"
    assert container["Image"] == "image:1"
    assert container["Environment"]["SAGEMAKER_PROGRAM"] == "inference.py"


def test_deleting_spares_what_only_begins_alike(clients, archive):
    create(clients, "search", PLACE, archive)
    create(clients, "search-two", PLACE, archive)
    delete(clients, "search")
    assert status(clients, "search-two")["EndpointName"] == "search-two"
    assert left(clients) == (1, 1, 1, 1)


def test_an_upload_without_a_model_is_taken_away_too(clients):
    clients.storage.put_object(Bucket=BUCKET, Key="inpars/search/abc/model.tar.gz", Body=b"torn")
    clients.storage.put_object(Bucket=BUCKET, Key="inpars/search-two/abc/model.tar.gz", Body=b"kept")
    delete(clients, "search", BUCKET)
    assert stored(clients) == ["inpars/search-two/abc/model.tar.gz"]


def test_more_archives_than_one_page_lists_are_taken_away(clients):
    for number in range(1001):
        clients.storage.put_object(Bucket=BUCKET, Key=f"inpars/search/{number}/model.tar.gz", Body=b"")
    assert len(delete(clients, "search", BUCKET)) == 1001
    assert stored(clients) == []


def test_serverless_has_memory_and_no_instances(clients, archive):
    place = Placement(role=PLACE.role, image=PLACE.image, bucket=BUCKET, serverless_memory_mb=3072)
    create(clients, "search", place, archive)
    config = clients.sagemaker.describe_endpoint_config(
        EndpointConfigName=status(clients, "search")["EndpointConfigName"]
    )
    [variant] = config["ProductionVariants"]
    assert variant["ServerlessConfig"] == {"MemorySizeInMB": 3072, "MaxConcurrency": 5}
    assert "InstanceType" not in variant
    assert "billed for the time of each request" in "\n".join(plan("search", place, archive))


def test_invoking_sends_the_request_and_reads_the_answer(clients):
    asked = {}

    class Body:
        def __init__(self, raw):
            self.read = lambda: raw

    class Runtime:
        answer = b'{"data": [1]}'

        def invoke_endpoint(self, **what):
            asked.update(what)
            return {"Body": Body(self.answer)}

    runtime = Runtime()
    mine = Clients(clients.sagemaker, runtime, clients.storage)
    assert invoke(mine, "search", {"input": ["x"]}) == {"data": [1]}
    assert (asked["EndpointName"], json.loads(asked["Body"])) == ("search", {"input": ["x"]})
    runtime.answer = b"<html>"
    with pytest.raises(BackendError, match="did not answer with JSON"):
        invoke(mine, "search", {})


def test_an_endpoint_that_is_not_there_is_said(clients):
    with pytest.raises(BackendError, match="there is no endpoint 'nowhere'"):
        status(clients, "nowhere")


def test_a_bucket_that_is_not_there_is_said_in_one_line(clients, archive):
    place = Placement(role=PLACE.role, image="image:1", bucket="nowhere")
    with pytest.raises(BackendError, match="cannot be written") as raised:
        create(clients, "search", place, archive)
    assert "\n" not in str(raised.value)
    assert left(clients)[:3] == (0, 0, 0)


def test_all_that_is_wrong_is_said_at_once(archive):
    place = Placement(role="me", image="i", bucket="b", instances=0, serverless_memory_mb=1000)
    with pytest.raises(ConfigError) as raised:
        plan("no good", place, archive)
    assert len(raised.value.problems) == 4


def flags(action, archive, *more):
    words = ["deploy", "sagemaker", action, "--name", "search", "--region", REGION, "--archive", str(archive)]
    return [*words, "--role", PLACE.role, "--image", "image:1", "--bucket", BUCKET, *more]


def test_cost_and_clean_up_are_said_before_anything_is_made(clients, archive, capsys):
    assert main(flags("create", archive)) == 0
    said = capsys.readouterr().out
    assert "cost: 1 x ml.c5.xlarge is billed for every hour" in said
    assert "clean-up: inpars deploy sagemaker delete --name search" in said
    assert said.endswith("nothing was made; add --yes to go on\n")
    assert left(clients) == (0, 0, 0, 0)
    assert main(flags("create", archive, "--yes")) == 0
    assert left(clients) == (1, 1, 1, 1)
    assert main(flags("status", archive)) == 0
    assert "EndpointName search" in capsys.readouterr().out
    assert main(flags("delete", archive)) == 1
    assert left(clients) == (1, 1, 1, 1)
    assert main(flags("delete", archive, "--yes")) == 0
    assert left(clients) == (0, 0, 0, 0)


def test_missing_flags_are_named(capsys):
    assert main(["deploy", "sagemaker", "create", "--name", "search"]) == 1
    said = capsys.readouterr().err
    assert all(f"--{name} is needed" in said for name in ("archive", "role", "image", "bucket"))
