"""The pretraining that each case starts from, by base and data set, and the linear evaluation of each data set."""

bases = dict(
    r18=dict(
        cifar100='configs/us3l/r18_4xb128-400e_cifar100.py',
        digits='configs/digits/r18_1xb64-16e_digits.py',
    ),
    r18_mse=dict(
        cifar100='configs/us3l/r18_4xb128-400e-mse_cifar100.py',
        digits='configs/digits/r18_1xb64-16e-mse_digits.py',
    ),
    r50=dict(cifar100='configs/us3l/r50_8xb64-400e_cifar100.py'),
    mbv2=dict(
        cifar100='configs/us3l/mbv2_4xb128-400e_cifar100.py',
        digits='configs/digits/mbv2_1xb64-2e_digits.py',
    ),
)
probes = dict(  # run with the backbone of the pretraining
    cifar100='configs/linear/r18_1xb512-100e_cifar100.py',
    digits='configs/digits/r18_1xb128-20e_digits.py',
)
# In place of the configs' own: six cases take less than ten minutes on two cores.
epochs = dict(digits=2)
probe_epochs = dict(digits=4)
