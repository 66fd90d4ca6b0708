"""The lines of a batch's result files: which belong to the batch, and what a line says. Knows nothing of queries."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from inpars.generation.api_faults import Fault, FaultError, fault_in, fault_of_status
from inpars.json_text import JsonError, parse_json


def own_lines(content: bytes, requests: Collection[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """The records of these requests, in the file's order, and what is to be said of the other lines."""
    found: list[dict[str, Any]] = []
    broken: list[str] = []
    foreign = 0
    for number, line in enumerate(content.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            record = parse_json(line)
        except JsonError as error:
            broken.append(f"line {number}: {error}")
            continue
        custom_id = record.get("custom_id") if isinstance(record, dict) else None
        if isinstance(custom_id, str) and custom_id in requests:
            found.append(record)
        else:
            foreign += 1
    notes = [f"{len(broken)} lines of the results cannot be read ({broken[0]})"] if broken else []
    return found, notes + [f"{foreign} lines of the results are of no request of this batch"] * bool(foreign)


def body_of(record: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON
    """The answer in a line of results. Raises FaultError where it is a failure."""
    response = record.get("response")
    if not isinstance(response, dict):
        raise FaultError(fault_in(record) or fault_in(response) or Fault(None, "no response"))
    status, body = response.get("status_code"), response.get("body")
    if status not in (200, "200", None):
        code = int(status) if str(status).isdecimal() else 0
        said = body if isinstance(body, str) else json.dumps(body)
        fault = fault_of_status(code, said.encode("utf-8", "replace")) if body else fault_in(record, code)
        raise FaultError(fault or Fault(code, "no reason given"))
    return body
