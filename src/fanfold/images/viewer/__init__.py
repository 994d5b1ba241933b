"""The page of a table of pictures: `fanfold images view`.

    browser ──▶ guard ──▶ app ──▶ questions    rows, neighbours, names, near-duplicates, failures, of one version
                                  mapped       the places of the map, and the rows in an area of it
                                  pictures     bytes of a row's picture, if it is under the table's root
                                  thumbnails   made by helper processes (decoder.py), kept in memory and on disk
                                  live         new rows and the run under way, as server-sent events
                static/           the page itself: plain modules, one style sheet

The server only reads. A client names rows, never paths.
"""
