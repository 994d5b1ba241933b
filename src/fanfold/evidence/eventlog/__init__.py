"""Event logs of Windows (.evtx): `chunks` finds what stands, `records` makes rows of it."""
