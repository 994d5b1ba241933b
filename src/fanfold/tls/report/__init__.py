"""`fanfold tls report`: the cells of a table as curves with their walls, a table, and one page."""
