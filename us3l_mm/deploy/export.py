"""Write a dense network of one width to files: checkpoint and config, ``torch.export`` program, ONNX."""

import importlib.util
import io
import json
from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.config import Config
from packaging.version import Version
from torch import Tensor, nn

from us3l_mm.config import names_scope
from us3l_mm.slim import width_label
from us3l_mm.version import __version__

from .plain_config import check_config
from .plain_model import Inference, PlainModel, outputs

TOLERANCE = 1e-4  # most that an exported network may differ from torch, see check_outputs
ONNX_PACKAGES = ('onnx', 'onnxscript', 'onnxruntime')


def describe(plain: PlainModel, config: str, checkpoint: str) -> dict:
    """Describe an exported network in numbers and words, for the file itself."""
    known = plain.cfg.model.get('data_preprocessor') or {}
    images = {} if plain.size is None else dict(input=[3, *plain.size])
    pixels = {key: known[key] for key in ('mean', 'std', 'to_rgb', 'bgr_to_rgb') if key in known}
    return dict(
        width=plain.width,
        part=plain.part,
        config=config,
        checkpoint=checkpoint,
        us3l_mm=__version__,
        preprocessing=pixels,
        **images,
    )


def checkpoint_files(out: Path, cfg: Config, model: nn.Module, plain: PlainModel, about: dict) -> dict[Path, Callable]:
    """Checkpoint OUT.pth and config OUT.py, as :func:`~us3l_mm.utils.files.write_files` takes them.

    Raises:
        RuntimeError: If the config does not build ``model``.
    """
    check_config(cfg, model)
    meta = {'us3l_mm_export': about}
    if 'dataset_meta' in plain.meta:  # names of the classes
        meta['dataset_meta'] = plain.meta['dataset_meta']
    if plain.size is not None:
        meta['input_size'] = plain.size
    cfg = Config(cfg.to_dict())
    if names_scope(cfg.to_dict(), 'us3l_mm'):
        cfg.custom_imports = dict(imports=['us3l_mm.models'], allow_failed_imports=False)
    title = f'Width {width_label(plain.width)} of {about["config"]}, by `us3l export`; weights: {out.name}.pth.'
    return {
        out.with_name(f'{out.name}.pth'): lambda path: torch.save(
            {'meta': meta, 'state_dict': model.state_dict()}, path
        ),
        out.with_name(f'{out.name}.py'): lambda path: path.write_text(
            f'"""{title}"""\n\n{cfg.pretty_text}', encoding='utf-8'
        ),
    }


def output_names(plain: PlainModel, count: int) -> list[str]:
    """Name the ``count`` outputs of :class:`Inference`."""
    return ['logits'] if plain.part == 'classifier' else [f'features_{i}' for i in range(count)]


def check_outputs(expected: tuple[Tensor, ...], got: tuple[Tensor, ...], what: str) -> float:
    """Compare the outputs of an exported network with torch's.

    Returns:
        float: Largest difference, relative to the largest output where that is above one.

    Raises:
        RuntimeError: If it is above :data:`TOLERANCE`, or shapes differ.
    """
    if [tuple(a.shape) for a in expected] != [tuple(b.shape) for b in got]:
        raise RuntimeError(
            f'{what} gives outputs of {[tuple(b.shape) for b in got]}, torch {[tuple(a.shape) for a in expected]}; '
            'use --format dense'
        )
    found = max(((a - b).abs().max() / a.abs().max().clamp(min=1)).item() for a, b in zip(expected, got))
    if not found <= TOLERANCE:  # nan, too
        raise RuntimeError(f'{what} differs from torch by {found:.1e}, more than {TOLERANCE:.0e}; use --format dense')
    return found


def _example(size: tuple[int, int], batch: int) -> Tensor:
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(0))


def export_torch(plain: PlainModel, size: tuple[int, int], about: dict) -> tuple[bytes, float]:
    """Export a ``torch.export`` program that takes any batch size, and compare it with torch.

    Args:
        plain (PlainModel): Network of one width.
        size (tuple[int, int]): Height and width of the images.
        about (dict): Goes into the file as ``us3l_mm.json``.

    Returns:
        tuple[bytes, float]: The file for ``torch.export.load``, and the largest difference from torch.

    Raises:
        RuntimeError: If its outputs differ from torch's.
    """
    net = Inference(plain)
    program = torch.export.export(net, (_example(size, 2),), dynamic_shapes=({0: torch.export.Dim('batch')},))
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={'us3l_mm.json': json.dumps(about)})
    images = _example(size, 3)
    loaded = torch.export.load(io.BytesIO(buffer.getvalue())).module()
    return buffer.getvalue(), check_outputs(outputs(net, images), outputs(loaded, images), 'torch.export')


def check_onnx_packages() -> None:
    """Raise ImportError, with the fix, if the ONNX export lacks a package."""
    missing = [name for name in ONNX_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f'ONNX export needs {", ".join(missing)}. Fix: pip install {" ".join(ONNX_PACKAGES)}')
    if Version(torch.__version__) < Version('2.6'):
        raise ImportError(f'ONNX export needs torch >= 2.6, found {torch.__version__}. Fix: pip install -U torch')


def export_onnx(plain: PlainModel, size: tuple[int, int], about: dict) -> tuple[bytes, float]:
    """Export an ONNX model with the input ``images`` of any batch size, and compare onnxruntime with torch.

    Args:
        plain (PlainModel): Network of one width.
        size (tuple[int, int]): Height and width of the images.
        about (dict): Goes into the metadata of the file.

    Returns:
        tuple[bytes, float]: The file, and the largest difference from torch.

    Raises:
        ImportError: If a package is missing; the message has the command.
        RuntimeError: If its outputs differ from torch's.
    """
    check_onnx_packages()
    import onnx
    import onnxruntime

    net = Inference(plain)
    images = _example(size, 3)
    expected = outputs(net, images)
    program = torch.onnx.export(
        net,
        (_example(size, 2),),
        dynamo=True,
        verbose=False,
        input_names=['images'],
        output_names=output_names(plain, len(expected)),
        dynamic_shapes=({0: torch.export.Dim('batch')},),
    )
    proto = program.model_proto
    onnx.helper.set_model_props(
        proto, {key: value if isinstance(value, str) else json.dumps(value) for key, value in about.items()}
    )
    onnx.checker.check_model(proto)
    file = proto.SerializeToString()
    session = onnxruntime.InferenceSession(file, providers=['CPUExecutionProvider'])
    got = tuple(torch.from_numpy(array) for array in session.run(None, {'images': images.numpy()}))
    return file, check_outputs(expected, got, 'ONNX')
