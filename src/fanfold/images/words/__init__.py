"""Words for models that end in a classifier of ImageNet's 1000 classes: search by them, and labels of every picture.

    vector ─▶ the model's own classifier ─▶ its 8 best classes, kept beside the table ─┐
    text ─▶ words of WordNet ─▶ the classes under them ────────────────────────────────┴─▶ rows, by probability

`vocabulary.py` knows the words, `classifier.py` the classes of a vector, `labels.py` keeps them and has them in the
table's order, and `search.py` answers.
"""
