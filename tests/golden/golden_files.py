"""How outputs and manifests are looked at, stored and compared.

An output whose floats depend on no processor is held to its SHA-256. Of the others, where the last bits of a network's
sums differ between processors, every float is compared with the stored value within the step's tolerance, and all that
is not a float is held to a SHA-256 of its own, `form`. Tensors are looked at as three sums each: their length, and two
sums with fixed random signs, which no single weight can leave unnoticed. (Rounded values could not be hashed: one near
the border of two falls on either side.)

On a machine whose bits are known (`machine`), the tolerance is none: there every byte counts.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

FLOAT = re.compile(r"(?<![\w.])-?\d+(?:\.\d+(?:[eE][-+]?\d+)?|[eE][-+]?\d+)(?![\w.])")
BINARY = {".npy", ".safetensors"}
NOT_OURS = re.compile(
    r"lock|tokenizer.*\.json|.*\.manifest\.json|.*\.answers\.jsonl"
)  # a library's, or looked at elsewhere
OF_THE_DAY = {"transformers_version", "__version__"}  # in the configurations that libraries write
OF_THE_REPORT = ("title", "results", "written", "negatives", "trainings")  # all but times, commits and versions
OF_THE_MACHINE = re.compile(r"^\| computed on .*$", re.MULTILINE)  # in a model's card
# biases of attention's keys: they have no effect, so their gradients are rounding alone, which AdamW makes large
NOISE = re.compile(r"key\.bias$")
HASHES = re.compile(r"[0-9a-f]{64}|(?<=\b\d{6}-)[0-9a-f]{12}\b")  # of a network's floats, in an index's names and files
VERSIONS = ("torch", "transformers", "sentence-transformers", "tokenizers", "numpy")
Portrait = dict[str, Any]


def files_of(folder: Path, outputs: tuple[str, ...]) -> Iterator[str]:
    """The files that are looked at, by their paths below `folder`: outputs, and what is in those that are folders."""
    for output in outputs:
        path = folder / output
        inside = sorted(part for part in path.rglob("*") if part.is_file()) if path.is_dir() else [path]
        yield from (part.relative_to(folder).as_posix() for part in inside if not NOT_OURS.fullmatch(part.name))


def portrait(path: Path, tolerance: float) -> Portrait:
    """What is stored of a file."""
    if not tolerance:
        return {"sha256": _hash(_text(path))}
    text = HASHES.sub("", _text(path))
    return {"form": _hash(FLOAT.sub("#", text)), "numbers": [_short(number) for number in FLOAT.findall(text)]}


def digest(folder: Path, names: list[str]) -> str:
    """One hash of all bytes of some files."""
    whole = hashlib.sha256()
    for name in names:
        path = folder / name
        raw = path.read_bytes() if path.suffix in BINARY else _text(path).encode()
        whole.update(f"{name} {len(raw)}\n".encode() + raw)
    return whole.hexdigest()


def differences(stored: Mapping[str, Portrait], now: Mapping[str, Portrait], tolerance: float) -> list[str]:
    """One line for each file that is not as it was."""
    found = [f"{name}: is gone" for name in stored if name not in now]
    found += [f"{name}: is new" for name in now if name not in stored]
    for name in stored.keys() & now.keys():
        if why := _difference(stored[name], now[name], tolerance):
            found.append(f"{name}: {why}")
    return sorted(found)


def _difference(stored: Portrait, now: Portrait, tolerance: float) -> str:
    if stored.get("sha256") != now.get("sha256"):
        return "other bytes"
    if stored.get("form") != now.get("form"):
        return "other text between its floats"
    before, after = (np.array(one.get("numbers", []), dtype=np.float64) for one in (stored, now))
    too_far = np.flatnonzero(~(np.abs(after - before) <= tolerance * (1 + np.abs(before))))
    return "; ".join(f"float {place + 1}: {after[place]:.7g} for {before[place]:.7g}" for place in too_far[:3])


def stable_manifest(path: Path, exact_inputs: set[str]) -> Portrait:
    """What a finished stage is recognised by, and its counts: no times, paths, versions, commits or devices.

    Hashes of inputs are kept where the input is the same on every machine.
    """
    fields = json.loads(path.read_text(encoding="utf-8"))
    inputs = {
        name: {"records": stamp["records"]} | ({"sha256": stamp["sha256"]} if _lasts(stamp, exact_inputs) else {})
        for name, stamp in fields["inputs"].items()
    }
    kept = {name: _lasting(fields[name]) for name in ("stage", "arguments", "seed", "dropped", "results")}
    return {**kept, "inputs": inputs, "records": fields["output"]["records"]}


def _lasting(value: Any) -> Any:
    """Without times, and without hashes of other outputs."""
    if isinstance(value, dict):
        return {name: _lasting(part) for name, part in value.items() if name not in ("seconds", "sha256")}
    return [_lasting(part) for part in value] if isinstance(value, list) else value


def manifest_differences(stored: Any, now: Any, tolerance: float, at: str = "") -> list[str]:
    """One line for each field that is another."""
    if isinstance(stored, dict) and isinstance(now, dict):
        names = sorted({*stored, *now})
        pairs = [(stored.get(name, "nothing"), now.get(name, "nothing"), f"{at}.{name}") for name in names]
        return [line for one, other, place in pairs for line in manifest_differences(one, other, tolerance, place)]
    if isinstance(stored, list) and isinstance(now, list) and len(stored) == len(now):
        pairs = [(one, other, f"{at}[{place}]") for place, (one, other) in enumerate(zip(stored, now, strict=True))]
        return [line for one, other, place in pairs for line in manifest_differences(one, other, tolerance, place)]
    if isinstance(stored, float) and isinstance(now, float):
        same = abs(now - stored) <= max(tolerance, 1e-9) * (1 + abs(stored))
        return [] if same else [f"{at}: {now:.7g} for {stored:.7g}"]
    return [] if (type(stored), stored) == (type(now), now) else [f"{at}: {now!r} for {stored!r}"]


def machine() -> str:
    """What decides a float's last bits: the processor, what is used of it, and the libraries."""
    import torch

    wanted = ("vendor_id", "cpu family", "model", "model name", "stepping", "cache size", "flags")
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    facts = dict(line.split("\t", 1) for line in reversed(lines) if "\t" in line)
    processor = [facts.get(name, "") for name in wanted]
    settings = [os.environ.get(name, "") for name in ("ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR")]
    libraries = [f"{name} {metadata.version(name)}" for name in VERSIONS]
    known = [*processor, torch.backends.cpu.get_cpu_capability(), *settings, *libraries]
    name = " ".join(facts.get("model name", "processor").strip(": ").split())
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}, {_hash(repr(known))[:12]}"


def _lasts(stamp: Mapping[str, Any], exact_inputs: set[str]) -> bool:
    """Whether an input's hash is the same everywhere: no server's address, no model's, no output with its floats.

    Nor Parquet's: each file names the version of pyarrow that wrote it.
    """
    path = Path(stamp["path"])
    if "://" in stamp["path"] or path.suffix == ".parquet":
        return False
    return not path.exists() or any(place.as_posix() in exact_inputs for place in (path, *path.parents))


def _text(path: Path) -> str:
    """A file as text; its floats are those that are compared."""
    if path.suffix == ".safetensors":
        return _tensors(path)
    if path.suffix == ".npy":
        array = np.load(path)
        return f"{array.dtype} {array.shape}\n{json.dumps(array.tolist())}"
    if path.suffix == ".parquet":
        import pyarrow.parquet

        table = pyarrow.parquet.read_table(path)
        return json.dumps([str(table.schema.remove_metadata()), table.to_pylist()])
    text = path.read_bytes().decode()
    if path.name == "report.json":
        return json.dumps({name: json.loads(text)[name] for name in OF_THE_REPORT})
    if path.suffix == ".json" and "config" in path.name:
        return json.dumps({name: value for name, value in json.loads(text).items() if name not in OF_THE_DAY})
    return OF_THE_MACHINE.sub("", text) if path.name == "README.md" else text


def _tensors(path: Path) -> str:
    from safetensors.numpy import load_file

    lines = []
    for name, tensor in sorted(load_file(path).items()):
        signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(2, tensor.size))
        flat = tensor.astype(np.float64).ravel() * (not NOISE.search(name))
        sums = [float(np.linalg.norm(flat)), *(signs @ flat).tolist()]
        lines.append(" ".join([name, str(tensor.dtype), str(tensor.shape), *(f"{value:.9e}" for value in sums)]))
    return "\n".join(lines)


def _short(number: str) -> float:
    return float(f"{float(number):.7g}")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
