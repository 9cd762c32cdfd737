"""The layers that data comes from: a net takes what they would read as inputs, so only its shape counts."""

from typing import Any

from minidl.interop.caffe_fields import Fields
from minidl.interop.caffe_spec import LayerSpec

__all__ = ["DATA_TYPES", "input_shapes"]

DATA_TYPES = ("Input", "Data", "ImageData", "MemoryData", "HDF5Data")

#: (C, H, W) of the images of datasets whose name is part of a source, such as "examples/mnist/mnist_train_lmdb".
SOURCES = {"mnist": (1, 28, 28), "cifar": (3, 32, 32), "shapes10": (3, 32, 32)}

_IGNORED = ("backend", "rand_skip", "prefetch", "cache", "shuffle", "root_folder", "is_color", "scale", "mean_file")
_IGNORED += ("mirror", "force_encoded_color")


def input_shapes(layer: LayerSpec, image_shape: tuple[int, ...] | None) -> list[tuple[int, ...]]:
    """Return the shape of each top of a data layer: images first, then labels (N,).

    Args:
        layer: of one of the `DATA_TYPES`.
        image_shape: (C, H, W) of images whose shape stands nowhere in the file.

    Raises:
        PrototxtError: the shape cannot be known, or wrong fields.
    """
    if layer.bottoms:
        layer.fields.fail(f"a layer of type {layer.type} has no bottom")
    if not layer.tops:
        layer.fields.fail(f"a layer of type {layer.type} needs a top")
    if layer.type == "Input":
        return _declared(layer)
    images = _batch(layer.fields, layer.type, image_shape)
    return [images] + [(images[0],)] * (len(layer.tops) - 1)


def blob_shape(shape: Fields) -> tuple[int, ...]:
    """The extents of a BlobShape."""
    dims = tuple(shape.integers("dim", least=1))
    if not dims:
        shape.fail(f"{shape.name} needs dim")
    return dims


def _declared(layer: LayerSpec) -> list[tuple[int, ...]]:
    shapes = [blob_shape(shape) for shape in layer.fields.message("input_param").messages("shape")]
    if len(shapes) not in (1, len(layer.tops)):
        layer.fields.fail(f"input_param needs one shape, or one for each of its {len(layer.tops)} tops")
    return shapes * (len(layer.tops) // len(shapes))


def _batch(fields: Fields, kind: str, image_shape: tuple[int, ...] | None) -> tuple[int, ...]:
    names = {"Data": "data_param", "ImageData": "image_data_param", "HDF5Data": "hdf5_data_param"}
    param = fields.message(names.get(kind, "memory_data_param"))
    transform = fields.message("transform_param")
    transform.ignore("scale", "mirror", "mean_file", "mean_value", "force_color", "force_gray")
    param.ignore(*_IGNORED)
    batch = param.integer("batch_size", None, least=1)
    if batch is None:
        fields.fail(f"{param.name} needs batch_size")
    crops = [part.integer("crop_size", 0, least=0) for part in (transform, param)]  # in the data's own in old files
    source: Any = ""
    if kind == "MemoryData":
        known = tuple(param.integer(name, None, least=1) for name in ("channels", "height", "width"))
        if None in known:
            fields.fail("memory_data_param needs channels, height and width")
    else:
        source = param.string("source", "")
        sides = tuple(param.integer(f"new_{side}", 0, least=0) for side in ("height", "width"))
        found = next((shape for name, shape in SOURCES.items() if name in source.lower()), None)
        known = image_shape or ((3, *sides) if all(sides) else found)
    if known is None:
        fields.fail(f'its source "{source}" does not tell the shape of an image; pass image_shape=(C, H, W)')
    crop = max(crops)
    return (batch, known[0], crop, crop) if crop else (batch, *known)
