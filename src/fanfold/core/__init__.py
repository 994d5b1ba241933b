"""The core: items become tasks, outcomes become fragments, committed fragments are the table. Read `run.py` first."""
