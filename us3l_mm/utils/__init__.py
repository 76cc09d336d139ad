"""Command-line options, files, jobs and tables."""


def register_all_modules() -> None:
    """Do nothing, as our registries import what a config names: :func:`mmengine.hub.get_model` asks for this."""
