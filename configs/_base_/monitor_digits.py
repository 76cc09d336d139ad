"""Watch every width in training, with the labels of scikit-learn's test digits: half are classified by the others."""

custom_hooks = [
    dict(
        type='us3l_mm.MonitorHook',
        interval=4,
        num_images=200,
        dataset=dict(
            type='us3l_mm.Digits',
            split='test',
            pipeline=[dict(type='Resize', scale=16, interpolation='bicubic'), dict(type='PackInputs')],
        ),
    )
]
