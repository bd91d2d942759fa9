"""Hooks and strings; the library is imported when a latent is built."""

from reprkit import Spec, hookimpl

NEEDS = ("vector_quantize_pytorch",)


@hookimpl
def reprkit_latents():
    """The wrapped quantisers."""
    yield Spec(
        "public-fsq", "strangers.quantisers:PublicFSQ", "FSQ of vector-quantize-pytorch (2309.15505)", NEEDS
    )
    yield Spec(
        "public-lfq", "strangers.quantisers:PublicLFQ", "LFQ of vector-quantize-pytorch (2310.05737)", NEEDS
    )
