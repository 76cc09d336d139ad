"""Linear evaluation of a ResNet-50 on labelled folders of your own at 4 widths: the paper's protocol of transfer.

python tools/linear_probe.py configs/linear/r50_1xb256-100e_folder.py CALIBRATED_CHECKPOINT --data-root FOLDER
1 GPU of 256 images; the learning rate follows the batch. Result: not run yet.
"""

_base_ = [
    '../_base_/models/linear_probe_r50.py',
    '../_base_/datasets/imagenet_linear.py',
    '../_base_/schedules/linear_100e.py',
    '../_base_/default_runtime.py',
]

data_root = 'data/folders'
folders = dict(type='CustomDataset', data_root=data_root, _delete_=True)
train_dataloader = dict(dataset=dict(data_prefix='train', pipeline=_base_.train_dataloader.dataset.pipeline, **folders))
val_dataloader = dict(dataset=dict(data_prefix='val', pipeline=_base_.val_dataloader.dataset.pipeline, **folders))
test_dataloader = val_dataloader
auto_scale_lr = dict(base_batch_size=256, enable=True)
