"""What every tracking store accepts: the limits of MLflow's servers and databases, and how values are cut to them.

The lowest limit of any release and database counts: PostgreSQL refuses a whole run for one value that is too long,
where SQLite stores it. What is cut here is whole in the files of the run (record.json, config.yaml, command.txt).
"""

from __future__ import annotations

import posixpath
import re

from harness.util.digest import digest

NAME = 250  # characters of the name of a run, and of the key of a tag, param or metric
PARAM = 500  # servers before 2.8; later ones take 6000
TAG = 5000  # servers before 2.15; later ones take 8000, and cut longer values silently
EXPERIMENT_TAG = 5000
DATASET_NAME = 500
DATASET_DIGEST = 36
DATASET_SOURCE = 65535
ARTIFACTS = 157  # of the folder of artifacts: a database keeps 200, with the id of a run and "/artifacts"
PARAMS_PER_CALL = 100
METRICS_PER_CALL = 500  # 1000, and a call has at most a million bytes

CUT = " ... (cut)"
UNACCEPTABLE = re.compile(r"[^A-Za-z0-9_. :/-]")


def text(value: str, longest: int) -> str:
    """A value of at most ``longest`` characters that any database can store; its end says whether it was cut."""
    storable = value.replace("\0", "").encode("utf-8", "replace").decode("utf-8")  # half characters of a file name
    return storable if len(storable) <= longest else storable[: longest - len(CUT)] + CUT


def key(name: str) -> str:
    """The key of a tag, param or metric. One that MLflow would refuse is changed, and ends in the digest of the name,
    so that two names never share a key."""
    if (
        0 < len(name) <= NAME
        and not UNACCEPTABLE.search(name)
        and posixpath.normpath(name) == name
        and name[0] not in "./"
    ):
        return name
    plain = UNACCEPTABLE.sub("_", name).replace("/", "_").lstrip(".")
    return f"{plain[: NAME - 9]}-{digest(name)[:8]}"
