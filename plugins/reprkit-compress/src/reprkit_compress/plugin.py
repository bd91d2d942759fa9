"""Registration of reprkit-compress's parts: hooks and strings; a part's module is imported when it is first built."""

from collections.abc import Iterator

from reprkit import Spec, hookimpl

reprkit_api = 1  # version of the plugin interface


@hookimpl
def reprkit_encoders() -> Iterator[Spec]:
    """Analysis transforms."""
    yield from ()


@hookimpl
def reprkit_decoders() -> Iterator[Spec]:
    """Synthesis transforms."""
    yield from ()


@hookimpl
def reprkit_latents() -> Iterator[Spec]:
    """Quantized codes with entropy models, and standard codecs."""
    yield from ()


@hookimpl
def reprkit_evaluators() -> Iterator[Spec]:
    """Rate and distortion by real bytes."""
    yield from ()


@hookimpl
def reprkit_datasets() -> Iterator[Spec]:
    """Bytes of files."""
    yield Spec(
        "bytes",
        "reprkit_compress.data.bytes:Bytes",
        "The bytes of files, in windows: text for lossless models",
        forms=("bytes",),
    )
