"""Learned compression for reprkit: transforms, entropy models, standard codecs and rate-distortion curves."""
