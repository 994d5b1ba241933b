"""A map by a peer in a separate process: vectors in, a place on a plane for each out.

    python benches/peers/map.py pacmap VECTORS.npy PLACES.npy     PaCMAP, with its defaults
    python benches/peers/map.py umap VECTORS.npy PLACES.npy       UMAP by cosine, with its other defaults

VECTORS.npy holds float32[rows, dimension] of length 1, so that PaCMAP's Euclidean distances order as cosines do.
"""

import sys

import numpy as np


def main() -> None:
    """Read, spread out, write."""
    which, given, out = sys.argv[1:]
    vectors = np.load(given)
    if which == "pacmap":
        import pacmap

        places = pacmap.PaCMAP().fit_transform(vectors)
    else:
        import umap

        places = umap.UMAP(metric="cosine").fit_transform(vectors)
    np.save(out, np.asarray(places, np.float32))


if __name__ == "__main__":
    main()
