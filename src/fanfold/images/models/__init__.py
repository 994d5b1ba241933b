"""The networks: where they come from, how they are prepared, and how they run."""
