"""`fanfold tls analyze`: what pairs of handshakes show, one without and one with dummy certificates.

    store, CSV, Parquet, database ──inputs──▶ batches ──rows──▶ records ──pairs──▶ counts by n, and times by n
                                                                    └─▶ tables, sentences, plots, a page

`analyze.py` is the whole of it; `missing.py`, `splits.py`, `quantiles.py` and `model.py` compute, and touch no file.
"""
