"""`fanfold images ...`: the verbs of the job, and its `run` and `plan`."""

from cyclopts import App

from fanfold.cli import described
from fanfold.cli.jobs import verbs
from fanfold.images import Images
from fanfold.images.cli.columns import columns, join
from fanfold.images.cli.embed import Preparing
from fanfold.images.cli.export import export
from fanfold.images.cli.labels import labels
from fanfold.images.cli.map import map_
from fanfold.images.cli.models import models, quantize
from fanfold.images.cli.search import duplicates, index, search, vectors
from fanfold.images.cli.view import view

app = App(name="images")
run, plan = verbs(Images, Preparing())
app.command(
    run,
    name="embed",
    help=described(
        "Turn new and changed pictures into vectors. Run it again to resume or to update.",
        "fanfold images embed photos db",
    ),
)
for verb in (search, labels, index, duplicates, vectors, view, export, join, columns, quantize, models):
    app.command(verb)
app.command(map_, name="map")
