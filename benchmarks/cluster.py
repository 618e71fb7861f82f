"""A study on Ray's own test cluster, from whose nodes some are taken without a word.

    python benchmarks/cluster.py --seeds 8 --removals 3

Each node has a processor, and a GPU that Ray counts and nobody uses; a run is given half of it. The same study is run
by the local executor too, and the runs are compared to the byte, the seconds left out. Each node
that is taken is replaced, as in a cluster that mends itself. Prints a JSON document; exit code 1 if a run differs.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

# read when Ray is imported; by default its workers yield to whatever else the machine does
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_worker_niceness": "0"}

import ray
import tomli_w
from ray.cluster_utils import Cluster

from kills import compare
from lrlab.config import read_study
from lrlab.studies import Died, Ended, Progress, Resources, run_study

NODE = {"num_cpus": 1, "num_gpus": 1}
RUN = Resources(num_cpus=1, num_gpus=0.5)
ARMS = {"constant": {"schedule": {"name": "constant"}}, "cosine": {"schedule": {"name": "cosine"}}}


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seeds", type=int, default=4, help="seeds of each of the two arms [4]")
    options.add_argument("--steps", type=int, default=300, help="updates of each run [300]")
    options.add_argument("--removals", type=int, default=1, help="nodes that are taken away [1]")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "nodes.toml"
        file.write_text(tomli_w.dumps(study_of(given.seeds, given.steps)))
        found = on_nodes(file, Path(folder) / "nodes", removals=given.removals)
        for _ in run_study(read_study(file), file, root=Path(folder) / "here", workers=1):
            pass
        made = sorted((Path(folder) / "here").glob("nodes/*/seed*"))
        differences = {
            str(run.relative_to(Path(folder) / "here")): difference
            for run in made
            if (difference := compare(run, Path(folder) / "nodes" / run.relative_to(Path(folder) / "here")))
        }
    print(json.dumps({**found, "compared": len(made), "differences": differences}))
    return 1 if differences or found["outcomes"] != {"complete": len(made)} else 0


def study_of(num_seeds: int, steps: int) -> dict[str, Any]:
    base = {
        "steps": steps,
        "batch_size": 16,
        "model": {"width": 2},
        "evaluate": {"every": steps // 2},
        "checkpoint": {"every": 20},
        "telemetry": {"flush_every": 10},
        "engine": {"threads": 1},
        "device": "cpu",  # also where there is a GPU, whose digits do not repeat
    }
    return {"name": "nodes", "seeds": list(range(num_seeds)), "base": base, "arms": ARMS}


def on_nodes(file: Path, root: Path, *, removals: int) -> dict[str, Any]:
    """Run a study on two nodes, taking one away when a run there has a checkpoint."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [cluster.add_node(**NODE) for _ in range(2)]
    outcomes, died, taken, gpus_left = Counter[str](), [], [], set()
    for happening in run_study(read_study(file), file, root=root, ray=cluster.address, resources=RUN):
        member, event = happening  # no rates are tuned
        if isinstance(event, Ended):
            outcomes[event.outcome] += 1
        elif isinstance(event, Died):
            died.append(event.how)
        elif isinstance(event, Progress) and len(taken) < removals and member.name not in taken and all_saved(root):
            busy = busy_nodes()
            gpus_left |= set(busy.values())
            node = next((node for node in nodes if node.node_id in busy), None)
            if node is None:  # what Ray says of its nodes comes late
                continue
            nodes.remove(node)
            cluster.remove_node(node, allow_graceful=False)
            nodes.append(cluster.add_node(**NODE))
            taken.append(member.name)
    cluster.shutdown()
    resumed = sum(len(json.loads(file.read_text()).get("resumed", [])) for file in root.glob("nodes/*/seed*/run.json"))
    found = {"outcomes": dict(outcomes), "taken": len(taken), "died": died, "resumed": resumed}
    return {**found, "gpus_left": sorted(gpus_left)}


def all_saved(root: Path) -> bool:
    """Whether two runs at least are there, and each has a checkpoint to go on from."""
    runs = list(root.glob("nodes/*/seed*"))
    return len(runs) > 1 and all((run / "checkpoints" / "latest").exists() for run in runs)


def busy_nodes() -> dict[str, float]:
    """Node on which something runs -> what is left of its GPU."""
    left = ray._private.state.available_resources_per_node()
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    return {node: left[node].get("GPU", 0.0) for node in nodes if node in left and not left[node].get("CPU")}


if __name__ == "__main__":
    sys.exit(main())
