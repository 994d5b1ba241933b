"""Act as another node of a cluster on loopback, which `ray start` refuses: `python ray_node.py ADDRESS`.

It does not import fanfold: a node may have another version, or none.
"""

import signal
import sys
from pathlib import Path

from ray._private import services
from ray._private.node import Node
from ray._private.parameter import RayParams

_command = services._build_python_executable_command_memory_profileable


def without_agents(component: str, *rest: object, **options: object) -> list[str]:
    """The beginning of the command line of a process of Ray."""
    agent = component in ("dashboard_agent", "runtime_env_agent")
    stand_in = Path(__file__).with_name("ray_agent.py")
    return [sys.executable, "-IS", str(stand_in)] if agent else list(_command(component, *rest, **options))


BARE = (services, _command.__name__, without_agents)
"""Makes Ray start its nodes without agents: in a third of the time."""

if __name__ == "__main__":
    setattr(*BARE)
    options = {"node_ip_address": "127.0.0.1", "num_cpus": 1, "num_gpus": 0, "object_store_memory": 150 << 20}
    options |= {"node_manager_port": 0, "min_worker_port": 0, "max_worker_port": 0, "include_log_monitor": False}
    Node(RayParams(redis_address=sys.argv[1], gcs_address=sys.argv[1], **options), head=False)
    signal.pause()
