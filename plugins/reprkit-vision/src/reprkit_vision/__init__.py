"""Images for reprkit: data sets, augmentations, encoders and metrics, through torchvision and torchmetrics."""
