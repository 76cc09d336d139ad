# %% [markdown]
# # One set of weights, every width
#
# Pretrain US3L on scikit-learn's digits without labels, then slide the width and watch accuracy and latency. It needs a
# CPU and `pip install us3l_mm[demo]`. Cells start with `# %%`: VS Code, Spyder and Jupyter (by jupytext) run them one
# by one, and `python slide_the_width.py` runs all.

# %%
import os
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner

from us3l_mm.config import read_config
from us3l_mm.deploy.costs import net_latency, width_complexity
from us3l_mm.engine import ResumableRunner
from us3l_mm.evaluation import extract_features, knn_accuracy, nearest_neighbours
from us3l_mm.slim import calibrate_bn, to_dense
from us3l_mm.utils.tables import markdown_table

OUT = Path(os.environ.get('OUT', 'work_dirs/examples'))
EPOCHS = int(os.environ.get('EPOCHS', 16))
PER_CLASS = int(os.environ.get('PER_CLASS', 0)) or None  # images of each digit; all of them by default
WIDTHS = [round(1 - 0.05 * step, 2) for step in range(16)]  # from 1.0 to 0.25
torch.set_num_threads(1)  # for nets this small a second thread costs more than it saves

# %% [markdown]
# ## Pretrain
#
# A config is data: what differs from the one that ships is set here. After an interruption the same cell goes on where
# it stopped.

# %%
cfg = read_config('us3l_mm::digits/r18_1xb64-16e_digits.py')
cfg.work_dir, cfg.resume = str(OUT), True
cfg.train_cfg.max_epochs = EPOCHS
cfg.train_dataloader.dataset.per_class = PER_CLASS
cfg.custom_hooks = []  # nobody watches each width meanwhile: that takes as long as the training
model = ResumableRunner.from_cfg(cfg).train()
backbone = model.backbone.eval()

# %% [markdown]
# ## Calibrate
#
# Batch norm needs statistics of its own at each width; the training images tell them in one pass. The network can then
# have any of these 16 widths, though training has drawn others.

# %%
init_default_scope('mmpretrain')
views = (model.data_preprocessor(batch)['inputs'][0] for batch in Runner.build_dataloader(cfg.train_dataloader, seed=0))
calibrate_bn(backbone, WIDTHS, views)

# %% [markdown]
# ## Slide the width
#
# Features of all widths in one pass over the labelled images, then the vote of the 20 nearest. Time is that of the
# plain network of each width, which `to_dense` cuts out.

# %%
probe = read_config('us3l_mm::digits/r18_1xb128-20e_digits.py')
probe.train_dataloader.dataset.per_class = PER_CLASS
preprocessor = MODELS.build({'type': 'mmpretrain.ClsDataPreprocessor', **probe.model.data_preprocessor})
in_order = dict(type='DefaultSampler', shuffle=False)
train, test = (
    Runner.build_dataloader(dict(probe[f'{name}_dataloader'], sampler=in_order)) for name in ('train', 'val')
)
features, labels = extract_features(backbone, WIDTHS, train, preprocessor)
tested, truth = extract_features(backbone, WIDTHS, test, preprocessor)
rows = [
    dict(
        width_complexity(backbone, width, (16, 16)),
        knn=knn_accuracy(features[width], labels, tested[width], truth, k=20),
        **net_latency(to_dense(backbone, width), (16, 16), batch=64, warmup=3, repeats=20),
    )
    for width in WIDTHS
]
header = ['width', 'parameters', 'MACs', 'k-NN accuracy (%)', 'ms for 64 images']
lines = [
    [f'{r["width"]:g}', f'{r["params"]:,}', f'{r["macs"]:,}', f'{r["knn"]:.1f}', f'{r["latency_ms"]:.1f}'] for r in rows
]
print(markdown_table(header, lines))

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout='constrained')
for ax, key, name in zip(axes, ('knn', 'latency_ms'), header[3:]):
    ax.plot(WIDTHS, [row[key] for row in rows], 'o-')
    ax.set(xlabel='width', ylabel=name)
    ax.grid(alpha=0.3)
figure.savefig(OUT / 'slide_the_width.png', dpi=100)

# %% [markdown]
# ## What changes in between
#
# The first test image of some digits, and its nearest training images at three widths. `us3l play CHECKPOINT` shows the
# same for any image, with a slider.

# %%
shown, at = [int((truth == digit).nonzero()[0]) for digit in (3, 8)], (1.0, 0.5, 0.25)
figure, axes = plt.subplots(len(shown) * len(at), 7, figsize=(7, 6.6), layout='constrained')
for row, (image, width) in zip(axes, [(image, width) for image in shown for width in at]):
    _, nearest = nearest_neighbours(features[width], tested[width][image : image + 1], 6)
    pictures = [test.dataset[image], *(train.dataset[i] for i in nearest[0].tolist())]
    for ax, picture in zip(row, pictures):
        ax.imshow(picture['inputs'][0], cmap='gray')
        ax.set(xticks=[], yticks=[])
    row[0].set_ylabel(f'width {width:g}')
figure.savefig(OUT / 'neighbours.png', dpi=100)
print(f'saved {OUT}/slide_the_width.png and {OUT}/neighbours.png')
