"""The paper's main table: every method on CIFAR-100 with ResNet-18, ResNet-50 and MobileNetV2.

python tools/run_table.py methods --cases r18-us-simclr r18-us3l

Individual networks are trained once for each width. SEED needs its teacher first, configs/baselines/byol_r50_*.
SimCLR's loss weight is the number of GPUs: but for 4, run it with --cfg-options model.head.loss.loss_weight=GPUS.
Result: not run yet.
"""

_base_ = './_bases.py'

title = 'Individual and slimmable networks without labels'
published_from = dict(data='CIFAR-100', name='CVPR 2023', source='main table of Cao et al., CVPR 2023 (talk)')
published_widths = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.25]

lengths = dict(simclr=400, simsiam=400, byol=400, seed=200, **{'seed-mse': 400, 'us-simclr': 400, 'us-simsiam': 400})
cifar100 = {method: f'configs/baselines/{method}_r18_4xb128-{n}e_cifar100.py' for method, n in lengths.items()}
digits = {method: f'configs/digits/{method}_r18_1xb64-2e_digits.py' for method in lengths}
bases = {method: dict(cifar100=cifar100[method], digits=digits[method]) for method in lengths}
bases.update({f'{method}-full': dict(cifar100=cifar100[method]) for method in lengths})  # the digits' nets are smaller
r50 = dict(model=dict(backbone=dict(depth=50), neck=dict(in_channels=2048)))
r50_nce = dict(r50, optim_wrapper=dict(optimizer=dict(lr=0.25)))  # half the rate, as in the recipe of US3L
mbv2 = dict(
    model=dict(backbone=dict(_delete_=True, type='us3l_mm.SlimmableMobileNetV2_CIFAR'), neck=dict(in_channels=1280))
)
individual_mbv2 = dict(
    model=dict(
        backbone=dict(_delete_=True, type='us3l_mm.SlimmableMobileNetV2_CIFAR', width=1.0),
        neck=dict(in_channels=1280),
    )
)
rows = {  # what, base, one run for each width?, changes, published
    'r18-simclr': ('R-18, SimCLR', 'simclr', True, {}, '66.5 65.4 64.7 63.7 62.6 61.0 59.0 56.1 53.6'),
    'r18-simsiam': ('R-18, SimSiam', 'simsiam', True, {}, '66.5 65.4 64.6 63.5 62.6 60.0 58.3 54.9 52.4'),
    'r18-byol': ('R-18, BYOL', 'byol', True, {}, '66.8 66.0 65.6 65.3 63.0 62.1 59.5 56.0 54.3'),
    'r18-seed': ('R-18, SEED', 'seed', True, {}, '67.3 66.6 65.8 65.2 64.8 63.5 62.2 60.1 58.5'),
    'r18-seed-mse': ('R-18, SEED-MSE', 'seed-mse', True, {}, '67.5 66.8 66.7 66.0 65.4 64.9 63.6 61.3 60.1'),
    'r18-us-simclr': ('R-18, US+SimCLR', 'us-simclr', False, {}, '65.5 64.9 63.8 63.6 62.7 61.8 60.2 58.2 57.4'),
    'r18-us-simsiam': ('R-18, US+SimSiam', 'us-simsiam', False, {}, '57.5 57.4 57.3 57.0 56.3 55.4 54.5 53.1 52.4'),
    'r18-us3l': ('R-18, US3L', 'r18', False, {}, '69.0 . 68.0 . 66.1 64.7 . 60.9 60.4'),
    'r50-byol': ('R-50, BYOL', 'byol-full', True, r50, '67.0 66.7 66.5 66.3 66.0 64.9 63.8 62.1 61.2'),
    'r50-seed': ('R-50, SEED', 'seed-full', True, r50, '70.3 69.8 69.6 69.4 69.0 68.2 67.2 65.6 65.1'),
    'r50-seed-mse': ('R-50, SEED-MSE', 'seed-mse-full', True, r50, '69.4 69.0 68.5 69.1 68.4 68.1 67.3 66.9 66.4'),
    'r50-us-simclr': (
        'R-50, US+SimCLR',
        'us-simclr-full',
        False,
        r50_nce,
        '70.1 69.9 69.7 69.3 68.7 68.2 67.5 66.0 65.5',
    ),
    'r50-us-simsiam': (
        'R-50, US+SimSiam',
        'us-simsiam-full',
        False,
        r50,
        '54.7 54.6 54.7 54.7 54.7 54.8 54.6 54.3 54.0',
    ),
    'r50-us3l': ('R-50, US3L', 'r50', False, {}, '72.6 72.0 71.5 71.2 70.6 70.2 68.6 67.7 67.4'),
    'mbv2-byol': ('MBv2, BYOL', 'byol-full', True, individual_mbv2, '61.2 60.7 60.5 60.2 59.9 58.7 57.3 54.6 51.9'),
    'mbv2-seed-mse': (
        'MBv2, SEED-MSE',
        'seed-mse-full',
        True,
        individual_mbv2,
        '68.6 68.9 67.6 67.3 67.4 66.3 65.5 64.0 62.6',
    ),
    'mbv2-us-simclr': (
        'MBv2, US+SimCLR',
        'us-simclr-full',
        False,
        mbv2,
        '56.2 56.0 55.3 55.0 54.8 54.3 54.0 53.2 52.2',
    ),
    'mbv2-us-simsiam': ('MBv2, US+SimSiam', 'us-simsiam-full', False, mbv2, '- - - - - - - - -'),
    'mbv2-us3l': ('MBv2, US3L', 'mbv2', False, {}, '65.7 65.1 64.2 63.6 63.4 62.2 61.5 60.7 59.3'),
}
cases = {
    case: dict(what=what, base=base, per_width=per_width, changes=changes, published=published)
    for case, (what, base, per_width, changes, published) in rows.items()
}
