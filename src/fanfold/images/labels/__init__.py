"""Labels of one's own: which of those in a file fits each picture best.

    subject.txt ──file.py──▶ labels ──the model──▶ the best of each row ──keep.py──▶ columns `subject`, `subject_score`

The model is a text encoder (fanfold.images.text.labels), or a classifier that knows some of the words
(fanfold.images.words.own). The columns are kept beside the table as those of `fanfold images join` are, so filters,
searches and exports have them.
"""
