"""Image augmentations, which are corruptions, one per file; two views of an image are two draws of them."""
