"""Free text: words become a vector in the space of a table's pictures, by the text encoder that goes with its model.

    words ──tokens.py──▶ int64[1, length] ──encoder.py──▶ float32[dimension] ──search──▶ rows
                ▲                             ▲
                └──────── files.py ───────────┘
                              ▲  the facts of a `Text`: addresses, hashes, length, padding, case
               known models ──┤  models/registry.py
           a model of one's own  own.py

`twin.py` finds the text encoder of a table.
"""
