"""Losses."""

from .nt_xent_loss import NTXentLoss, nt_xent, view_losses
from .seed_loss import SEEDLoss, soft_similarity

__all__ = ['NTXentLoss', 'SEEDLoss', 'nt_xent', 'soft_similarity', 'view_losses']
