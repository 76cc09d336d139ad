"""Watch every width in training, with the labels of 2,000 test images of CIFAR-100: half are classified by the others."""

custom_hooks = [
    dict(
        type='us3l_mm.MonitorHook',
        interval=10,
        num_images=1000,
        dataset=dict(
            type='CIFAR100',
            download=False,
            data_root='data/cifar100',
            split='test',
            pipeline=[dict(type='PackInputs')],
        ),
    )
]
