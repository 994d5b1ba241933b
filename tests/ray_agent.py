"""Stand in for both agents that Ray starts beside every raylet: say that no port is open, and end with the raylet.

The agents serve dashboards, metrics and runtime environments. Each loads most of Ray, for which a node would wait.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    options = dict(word.removeprefix("--").split("=", 1) for word in sys.argv if "=" in word)
    for name in ("metrics_agent", "metrics_export", "dashboard_agent_listen", "runtime_env_agent"):
        file = Path(options["session-dir"], f"{name}_port_{options['node-id']}")
        part = file.with_name(f"{file.name}.{Path(sys.argv[1]).stem}")
        part.write_text("-1")
        part.replace(file)
    sys.stdin.read()
