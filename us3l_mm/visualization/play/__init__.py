"""A page in the browser that shows what a network makes of an image at each width."""

from .player import Player
from .server import PlayServer

__all__ = ['Player', 'PlayServer']
