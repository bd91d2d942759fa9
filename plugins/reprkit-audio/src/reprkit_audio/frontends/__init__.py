"""Front ends: from a waveform to frames, and what a vocoder needs beside them."""

from reprkit_audio.frontends.base import FrontEnd, Sound, frontend

__all__ = ["FrontEnd", "Sound", "frontend"]
