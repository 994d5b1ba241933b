"""Columns of one's own: values of a CSV or Parquet file, joined to the rows of a table by their key.

    labels.csv ──read──▶ checked, typed ──keep──▶ _view/TABLE/columns-labels.parquet    beside the table, by key
    the table's newest version + all that is kept ──▶ _view/TABLE/joined-....lance      one dataset with all columns

The table itself is not changed. The second file is a shallow clone: it refers to the table's files, vectors and index
included, and holds the joined columns only. So Lance answers a filter or a search over both kinds of columns at once.
It is made when it is needed, for one version of the table, and can be deleted at any time.
"""
