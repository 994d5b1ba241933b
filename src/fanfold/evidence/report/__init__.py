"""What the records of a machine show, as sentences, each with the records that it rests on; and what they cannot show.

    tables ──load.py──▶ Case ──rules/──▶ findings ──report.py──▶ Report ──text.py, html.py, exports.py──▶ to read
                          └──clock.py: times as the machine's users saw them

Nothing here is stored: a report is made from the tables each time, in seconds, so it is never older than its rules.
"""
