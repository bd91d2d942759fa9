"""Registration of reprkit-compress's parts: hooks and strings; a part's module is imported when it is first built."""

from collections.abc import Iterator

from reprkit import Spec, hookimpl

reprkit_api = 1  # version of the plugin interface


@hookimpl
def reprkit_encoders() -> Iterator[Spec]:
    """Analysis transforms."""
    yield Spec(
        "cosine",
        "reprkit_compress.encoders.cosine:CosineEncoder",
        "Blocks of pixels by a map that starts as the cosine transform, fast to train on a CPU",
    )
    yield Spec(
        "compact",
        "reprkit_compress.encoders.compact:CompactEncoder",
        "A smaller picture for a standard codec (arXiv 1708.00838)",
    )
    yield Spec(
        "strided",
        "reprkit_compress.encoders.strided:StridedEncoder",
        "Strided convolutions with divisive normalization (arXiv 1611.01704)",
    )
    yield Spec(
        "blocks",
        "reprkit_compress.encoders.blocks:BlocksEncoder",
        "Strided convolutions with residual blocks, fast on a CPU",
    )


@hookimpl
def reprkit_decoders() -> Iterator[Spec]:
    """Synthesis transforms."""
    yield Spec(
        "cosine",
        "reprkit_compress.decoders.cosine:CosineDecoder",
        "The inverse cosine transform with learned corrections",
    )
    yield Spec(
        "restore",
        "reprkit_compress.decoders.restore:RestoreDecoder",
        "Enlargement and restoration of a codec's picture (arXiv 1708.00838)",
    )
    yield Spec(
        "strided",
        "reprkit_compress.decoders.strided:StridedDecoder",
        "Inverse divisive normalization and transposed convolutions (arXiv 1611.01704)",
    )
    yield Spec(
        "blocks",
        "reprkit_compress.decoders.blocks:BlocksDecoder",
        "Residual blocks and sub-pixel convolutions, fast on a CPU",
    )


@hookimpl
def reprkit_latents() -> Iterator[Spec]:
    """Quantized codes with entropy models, and standard codecs."""
    yield Spec(
        "hyperprior",
        "reprkit_compress.latents.hyperprior:Hyperprior",
        "Whole numbers under tables that a side code chooses, several rates (arXiv 1802.01436)",
    )
    yield Spec(
        "context",
        "reprkit_compress.latents.context:Context",
        "Whole numbers under tables that two neighbors choose (arXiv 1809.02736)",
    )
    yield Spec(
        "context-tables",
        "reprkit_compress.latents.context_tables:ContextTables",
        "Whole numbers under counted tables that the numbers before them choose",
    )
    yield Spec(
        "jpeg",
        "reprkit_compress.latents.codecs:Jpeg",
        "JPEG between two networks (arXiv 1708.00838)",
    )
    yield Spec(
        "webp",
        "reprkit_compress.latents.codecs:Webp",
        "WebP between two networks",
    )


@hookimpl
def reprkit_evaluators() -> Iterator[Spec]:
    """Rate and distortion by real bytes."""
    yield Spec(
        "rate-distortion",
        "reprkit_compress.evaluators.rate_distortion:RateDistortion",
        "Bytes and errors of pictures, beside JPEG, WebP and AVIF",
    )


@hookimpl
def reprkit_datasets() -> Iterator[Spec]:
    """Bytes of files."""
    yield Spec(
        "bytes",
        "reprkit_compress.data.bytes:Bytes",
        "The bytes of files, in windows: text for lossless models",
        forms=("bytes",),
    )
