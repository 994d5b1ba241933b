"""Act as another node of a cluster on loopback, which `ray start` refuses: `python ray_node.py ADDRESS`.

It does not import fanfold: a node may have another version, or none.
"""

import signal
import sys

import ray._private.utils
from ray._private.node import Node
from ray._private.parameter import RayParams

BARE = (ray._private.utils, "get_dashboard_dependency_error", lambda: ImportError("not wanted"))
"""Makes Ray start its nodes as if `ray[default]` were not installed, in two thirds of the time."""

if __name__ == "__main__":
    setattr(*BARE)
    options = {"node_ip_address": "127.0.0.1", "num_cpus": 1, "num_gpus": 0, "object_store_memory": 150 << 20}
    options |= {"node_manager_port": 0, "min_worker_port": 0, "max_worker_port": 0, "include_log_monitor": False}
    Node(RayParams(redis_address=sys.argv[1], gcs_address=sys.argv[1], **options), head=False)
    signal.pause()
