"""The map of a table: a place on a plane for every picture, so that pictures that look alike are near each other.

table ──sample──▶ landmarks ──t-SNE──▶ their places ──▶ every other row: where its nearest landmarks are

from fanfold.images import maps
maps.load(dataset)     what is kept, or None
maps.build(dataset)    makes it, or places the rows that are new
"""

from fanfold.images.maps.map import NOWHERE, Due, Map, Needs, build, due, load, needs
from fanfold.images.maps.placing import Places

__all__ = ["NOWHERE", "Due", "Map", "Needs", "Places", "build", "due", "load", "needs"]
