"""What a whole run deploys: a search system whose weights are chosen on queries that nobody judged.

The queries are the run's own, each of which has one document that is known to answer it. Judged test queries have no
part in the choice.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from inpars.formats import read_run, read_synthetic_queries
from inpars.fusion.choice import Choice, OwnQuery, choose
from inpars.fusion.system import SYSTEM_FILE, FirstStage, SearchSystem, write_system
from inpars.manifest import Manifest, stamp, stamp_text
from inpars.options import option
from inpars.pipeline.retrieving import FUSION_DEPTH, Surroundings, search
from inpars.retrieval.bm25 import DEFAULT_B, DEFAULT_K1, DEFAULT_LANGUAGE
from inpars.stages.stage import Outcome, run_stage
from inpars.storage import atomic_writer
from inpars.topics import Topics

FOLDER, CHOICE = "choice", "choice.json"
