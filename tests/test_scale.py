"""The example of docs/scale.md on Ray: two workers, of which one is killed; an exported model needs no torch in them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sadcl_core.exporting.export import Export
from sadcl_core.inference.load import load

PAGE = Path(__file__).parents[1] / "docs" / "scale.md"
ROWS = 48

# the worker that gets the first image ends before it has an answer, once
KILL = """
import os, signal, sys

class Predict(Predict):
    def __call__(self, batch):
        try:
            if 0 in batch["number"]:
                os.close(os.open("killed", os.O_CREAT | os.O_EXCL))
                os.kill(os.getpid(), signal.SIGKILL)
        except FileExistsError:
            pass
        return super().__call__(batch)

ray.init(
    "local", num_cpus=3, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20,
    _node_ip_address="127.0.0.1",
)
"""


def program(folder: Path, model: Path) -> str:
    """The example, with a model and images of this machine."""
    text = PAGE.read_text(encoding="utf-8")
    blocks = [re.search(rf"<!-- ray: {name} -->\n```python\n(.*?)```", text, re.DOTALL) for name in ("the class", "the job")]
    shown, job = (block[1] for block in blocks if block is not None)
    for there, here in (
        ("s3://bucket", str(folder)),
        ("/shared/runs/coco", str(model)),
        ("num_gpus=1, concurrency=8", "concurrency=2"),
        ("batch_size=64", "batch_size=4"),
    ):
        assert there in job, there
        job = job.replace(there, here)
    kill = KILL.replace('"killed"', repr(str(folder / "killed")))
    return "\n".join((shown.replace("sadcl.load(run)", 'sadcl.load(run, device="cpu")'), kill, job))


@pytest.mark.slow
def test_a_worker_of_ray_is_killed_and_no_row_is_lost_or_there_twice(trained: Path, exported: Export, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    images = sorted((trained / "my-coco" / "val2017").iterdir())
    (tmp_path / "paths").mkdir()
    for start in range(0, ROWS, 8):  # a block for each file
        rows = range(start, start + 8)
        table = pa.table({"path": [str(images[row % len(images)]) for row in rows], "number": list(rows)})
        pq.write_table(table, tmp_path / "paths" / f"{start:03d}.parquet")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": str(tmp_path.parent)}
    environment |= {"RAY_worker_register_timeout_seconds": "600", "RAY_raylet_start_wait_time_s": "600"}  # of a busy machine
    environment["PYTHONPATH"] = str(PAGE.parents[1])
    command = [sys.executable, "-c", program(tmp_path, exported.path)]
    ran = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=900, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert (tmp_path / "killed").exists()
    table = pq.read_table(tmp_path / "labels")
    assert sorted(table["number"].to_pylist()) == list(range(ROWS))
    expected = load(exported.path, device="cpu")({"image": images})["labels"]
    for row in table.to_pylist():
        assert row["labels"] == expected[row["number"] % len(images)]
        assert row["error"] == ""
