"""The compiled mmcv operators that mmdet's common detectors call, on top of torch and torchvision.

Names, argument order and the writing into preallocated outputs are those with which mmcv's Python wrappers
call ``mmcv._ext``. Obsolete once mmcv ships wheels for current PyTorch: none yet (mmcv 2.2.0).

Shape letters: N boxes or samples, K regions, B images, C channels or classes, H and W feature map, h and w
output.
"""

import torch
import torchvision  # noqa: F401  (registers torch.ops.torchvision)
from torch import Tensor

# What C calls FLT_MIN: mmcv clamps probabilities there before taking the logarithm.
_FLOAT32_TINY = torch.finfo(torch.float32).tiny


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    """Non-maximum suppression, a box being dropped where its IoU with a better one is above the threshold.

    mmcv takes widths as ``x2 - x1 + offset``, also for the overlap. Moving x2 and y2 by ``offset`` gives the
    same numbers with the plain widths of torchvision: ``min(x2, x2') + 1 = min(x2 + 1, x2' + 1)``. With
    ``offset=1`` float32 rounds at another place for coordinates that are no integers, a difference of one
    unit in the last place.

    Args:
        boxes: (N, 4) as x1, y1, x2, y2 in pixels.
        scores: (N,).
        iou_threshold: in [0, 1].
        offset: 0 or 1, added to widths and heights.

    Returns:
        Indices of the kept boxes by falling score, int64.
    """
    if offset:
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    # mmcv compares in float32, torchvision's CPU kernel against a double: 0.6 would drop boxes with an IoU of
    # 0.6.
    threshold = torch.tensor(iou_threshold, dtype=torch.float32).item()
    return torch.ops.torchvision.nms(boxes, scores, threshold)


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Soft-NMS (Bodla et al., arXiv:1704.04503) in the order of mmcv's CPU kernel, ties included.

    Args:
        boxes: (N, 4), on the CPU.
        scores: (N,).
        dets: (N, 5), written in place; its first M rows hold the kept boxes with decayed scores.
        iou_threshold: a box is decayed from this IoU on (methods 0 and 1).
        sigma: width of the Gaussian (method 2).
        min_score: boxes decayed below it are dropped.
        method: 0 naive, 1 linear, 2 Gaussian.
        offset: 0 or 1, added to widths and heights.

    Returns:
        Indices of the M kept boxes, int64.
    """
    sizes = boxes[:, 2:] - boxes[:, :2] + offset
    # One row a box: x1, y1, x2, y2, score, area. Rows and indices are swapped together.
    rows = torch.cat([boxes, scores[:, None], sizes.prod(dim=1, keepdim=True)], dim=1).float()
    inds = torch.arange(len(rows))
    alive = len(rows)
    i = 0
    while i < alive:
        best = i + int(rows[i:alive, 4].argmax())
        swap, swapped = [i, best], [best, i]
        rows[swap], inds[swap] = rows[swapped], inds[swapped]
        dets[i] = rows[i, :5]
        rest = rows[i + 1 : alive]
        rest[:, 4] *= _soft_nms_decay(rows[i], rest, iou_threshold, sigma, method, offset)
        i += 1
        # A dropped row is filled with the last one alive: this is what fixes the order among equal scores.
        drop, pos = (rows[:alive, 4] < min_score).tolist(), i
        while pos < alive:
            if not drop[pos]:
                pos += 1
                continue
            alive -= 1
            rows[pos], inds[pos], drop[pos] = rows[alive], inds[alive], drop[alive]
    return inds[:alive]


def _soft_nms_decay(row: Tensor, rest: Tensor, iou_threshold: float, sigma: float, method: int, offset: int) -> Tensor:
    """Factor on the score of each row of ``rest`` (N, 6), given the picked ``row`` (6,)."""
    corner_min = torch.maximum(row[:2], rest[:, :2])
    corner_max = torch.minimum(row[2:4], rest[:, 2:4])
    inter = (corner_max - corner_min + offset).clamp(min=0).prod(dim=1)
    iou = inter / (row[5] + rest[:, 5] - inter)
    if method == 2:
        return torch.exp(-(iou * iou) / sigma)
    hit = torch.zeros_like(iou) if method == 0 else 1 - iou
    return torch.where(iou >= iou_threshold, hit, torch.ones_like(iou))


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """RoIAlign with average pooling, written into ``output``.

    Args:
        input: (B, C, H, W).
        rois: (K, 5) as image index, x1, y1, x2, y2 in image pixels.
        output: (K, C, h, w), written in place.
        argmax_y: unused, for max pooling only.
        argmax_x: unused, for max pooling only.
        aligned_height: h.
        aligned_width: w.
        spatial_scale: feature cells per image pixel.
        sampling_ratio: samples a bin and axis; 0 takes one a feature cell.
        pool_mode: 1 for average; 0 (max) is not covered.
        aligned: shift by half a pixel as detectron2 does.

    Raises:
        NotImplementedError: with max pooling.
    """
    _require_average(pool_mode)
    output.copy_(
        torch.ops.torchvision.roi_align(
            input, rois, spatial_scale, aligned_height, aligned_width, sampling_ratio, aligned
        )
    )


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Gradient of :func:`roi_align_forward`, added to ``grad_input`` (B, C, H, W) as mmcv's kernels do.

    The other arguments are those of the forward pass; ``grad_output`` is (K, C, h, w).

    Raises:
        NotImplementedError: with max pooling.
    """
    _require_average(pool_mode)
    # torchvision's argument list after the sizes: image count, channels, height, width.
    sizes = (aligned_height, aligned_width, *grad_input.shape)
    grad_input += torch.ops.torchvision._roi_align_backward(
        grad_output, rois, spatial_scale, *sizes, sampling_ratio, aligned
    )


def _require_average(pool_mode: int) -> None:
    if pool_mode != 1:
        raise NotImplementedError(
            "RoIAlign without mmcv's compiled operators has pool_mode 'avg' only, got 'max'; "
            "use RoIAlign(pool_mode='avg') or install full mmcv: pip install mmcv==2.1.0 (compiles)"
        )


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Focal loss (Lin et al., arXiv:1708.02002) of each logit, written into ``output``.

    With p = sigmoid(x): ``-alpha (1-p)^gamma log p`` at the target class, ``-(1-alpha) p^gamma log(1-p)``
    elsewhere.

    Args:
        input: logits, (N, C).
        target: class indices in [0, C], C being background, (N,).
        weight: factor a class, (C,), or empty.
        output: (N, C), written in place.
        gamma: focusing exponent.
        alpha: weight of the positive class, in [0, 1].

    Raises:
        ValueError: with ``weight`` and a target outside [0, C), where mmcv reads past the end of ``weight``.
    """
    p, q, log_p, log_q = _log_probabilities(input)
    positive, factor = _targets(input, target, weight)
    loss = torch.where(positive, -alpha * q**gamma * log_p, -(1 - alpha) * p**gamma * log_q)
    output.copy_(loss * factor)


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Derivative of :func:`sigmoid_focal_loss_forward` by the logits, written into ``grad_input`` (N, C).

    Arguments and errors are those of the forward pass.
    """
    p, q, log_p, log_q = _log_probabilities(input)
    positive, factor = _targets(input, target, weight)
    grad = torch.where(
        positive,
        -alpha * q**gamma * (q - gamma * p * log_p),
        -(1 - alpha) * p**gamma * (gamma * q * log_q - p),
    )
    grad_input.copy_(grad * factor)


def _log_probabilities(logits: Tensor) -> tuple:
    """p, 1 - p and their clamped logarithms, (N, C) each; half precision is computed in float32."""
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    p = logits.sigmoid()
    q = 1 - p
    return p, q, p.clamp(min=_FLOAT32_TINY).log(), q.clamp(min=_FLOAT32_TINY).log()


def _targets(logits: Tensor, target: Tensor, weight: Tensor) -> tuple:
    """Mask of the target class, (N, C), and the factor of each sample, (N, 1) or 1."""
    num_classes = logits.size(1)
    positive = target[:, None] == torch.arange(num_classes, device=target.device)
    if weight.numel() == 0:
        return positive, 1
    if bool(((target < 0) | (target >= num_classes)).any()):
        raise ValueError(
            f'a class-weighted sigmoid focal loss needs targets in [0, {num_classes}), '
            f'got {int(target.min())}..{int(target.max())}; drop background samples or the class weights'
        )
    return positive, weight[target][:, None]
