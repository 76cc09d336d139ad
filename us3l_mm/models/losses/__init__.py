"""Losses."""

from .nt_xent_loss import NTXentLoss, nt_xent

__all__ = ['NTXentLoss', 'nt_xent']
