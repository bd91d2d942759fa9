"""Vocoders: from a front end's frames back to a waveform."""

from reprkit_audio.vocoders.base import Vocoder, vocoder

__all__ = ["Vocoder", "vocoder"]
