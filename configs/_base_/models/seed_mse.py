"""SEED-MSE: a ResNet-18 of one width learns the embeddings of a frozen ResNet-50 of BYOL."""

_base_ = './seed.py'

model = dict(
    head=dict(
        loss=dict(_delete_=True, type='CosineSimilarityLoss'),
        predictor=dict(_delete_=True, **_base_.predictor_mse),
    ),
)
