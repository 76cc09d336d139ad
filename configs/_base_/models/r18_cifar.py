"""ResNet-18 of one width for images of 32 pixels: what the methods for individual networks share."""

width = 1.0  # this and what follows from it, model.backbone.width and model.neck.in_channels: set all by --width
model = dict(
    data_preprocessor=dict(
        type='SelfSupDataPreprocessor',
        mean=[0.4914 * 255, 0.4822 * 255, 0.4465 * 255],
        std=[0.2023 * 255, 0.1994 * 255, 0.2010 * 255],
        to_rgb=False,  # CIFAR's images are RGB
    ),
    backbone=dict(type='us3l_mm.SlimmableResNet_CIFAR', depth=18, width=width, zero_init_residual=False),
)
