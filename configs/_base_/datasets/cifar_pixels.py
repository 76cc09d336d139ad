"""Mean and standard deviation of the pixels of CIFAR, whose images are RGB."""

data_preprocessor = dict(
    mean=[0.4914 * 255, 0.4822 * 255, 0.4465 * 255],
    std=[0.2023 * 255, 0.1994 * 255, 0.2010 * 255],
    to_rgb=False,
)
