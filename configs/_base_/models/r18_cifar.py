"""ResNet-18 of one width for images of 32 pixels: what the methods for individual networks share."""

width = 1.0  # this and what follows from it, model.backbone.width and model.neck.in_channels: set all by --width
model = dict(
    backbone=dict(type='us3l_mm.SlimmableResNet_CIFAR', depth=18, width=width, zero_init_residual=False),
)
