"""S-Net with SimSiam: four widths with batch norms of their own, each with the base loss on its own outputs."""

_base_ = ['./us_simsiam.py', './snet_layers.py']

model = dict(backbone=_base_.snet_layers, distill_loss=None, sampler=dict(widths=_base_.widths))
