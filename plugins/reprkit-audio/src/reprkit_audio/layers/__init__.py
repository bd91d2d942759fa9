"""Shared layers of the networks for speech: convolutions, norms and recurrent layers that ignore padding."""
