"""Fan one job out over many items; fold the results into one table, exactly once."""

__version__ = "0.1.0"
