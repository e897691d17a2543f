"""Subjects whose units have causal roles that are known by construction."""

from harness_plugins.subjects.planted.routes import PlantedRoutes
from harness_plugins.subjects.planted.subject import Planted

from harness import hookimpl

__all__ = ["Planted", "PlantedRoutes", "harness_subjects"]


@hookimpl
def harness_subjects() -> list[type[Planted | PlantedRoutes]]:
    return [Planted, PlantedRoutes]
