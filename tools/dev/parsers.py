"""The parser of a tool, made by the tool itself and not by a copy of its options: for the docs and for tests."""

import argparse
import importlib.util
import sys
from pathlib import Path
from unittest import mock


class _Made(Exception):
    """A parser is complete."""


def _stop(parser, *args, **kwargs):
    raise _Made(parser)


def parser_of(path: Path) -> argparse.ArgumentParser:
    """Run a script up to where it begins to parse, and return its parser."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    script = importlib.util.module_from_spec(spec)
    with mock.patch.object(sys, 'path', [str(path.parent), *sys.path]):
        spec.loader.exec_module(script)
        with mock.patch.object(argparse.ArgumentParser, 'parse_args', _stop):
            for name in ('parse_args', 'main'):
                try:
                    getattr(script, name, lambda: None)()
                except _Made as made:
                    return made.args[0]
    raise ValueError(f'{path} has neither parse_args nor main with a parser')
